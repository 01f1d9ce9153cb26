package benchmarks;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/** The workloads on Kafka Streams, one instance with one thread. Arguments: a job. */
public final class Workloads {
  public static final class Reading {
    public long id;
    public String sensor;
    public String site;
    public double temperature;
    public long ts;
  }

  public static final class Converted {
    public long id;
    public String sensor;
    public String site;
    public double temperature;
    public long ts;
    public double fahrenheit;
  }

  public record Mean(long id, String sensor, double avg) {}

  public record WindowMean(String sensor, long start, double avg) {}

  /** The temperatures of a sensor in a window. */
  public static final class Sum {
    public double total;
    public long count;

    Sum add(Reading reading) {
      total += reading.temperature;
      count++;
      return this;
    }
  }

  public record Count(long id, String site, long count) {}

  /** The last temperatures of a sensor. */
  public static final class Last {
    public int size;
    public double[] temperatures = new double[10];

    double add(double temperature) {
      if (size == temperatures.length) {
        System.arraycopy(temperatures, 1, temperatures, 0, size - 1);
        size--;
      }
      temperatures[size++] = temperature;
      double sum = 0;
      for (int i = 0; i < size; i++) {
        sum += temperatures[i];
      }
      return sum / size;
    }
  }

  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Serde<String> KEYS = Serdes.String();

  private static <T> Serde<T> json(Class<T> type) {
    ObjectReader reader = MAPPER.readerFor(type);
    ObjectWriter writer = MAPPER.writerFor(type);
    Serializer<T> serializer =
        (topic, value) -> {
          try {
            return value == null ? null : writer.writeValueAsBytes(value);
          } catch (IOException error) {
            throw new IllegalStateException(error);
          }
        };
    Deserializer<T> deserializer =
        (topic, bytes) -> {
          try {
            return bytes == null ? null : reader.readValue(bytes);
          } catch (IOException error) {
            throw new IllegalStateException(error);
          }
        };
    return Serdes.serdeFrom(serializer, deserializer);
  }

  private static Converted convert(Reading reading) {
    Converted converted = new Converted();
    converted.id = reading.id;
    converted.sensor = reading.sensor;
    converted.site = reading.site;
    converted.temperature = reading.temperature;
    converted.ts = reading.ts;
    converted.fahrenheit = reading.temperature * 1.8 + 32;
    return converted;
  }

  private static final class Averager extends ContextualFixedKeyProcessor<String, Reading, Mean> {
    private KeyValueStore<String, Last> store;

    @Override
    public void init(FixedKeyProcessorContext<String, Mean> context) {
      super.init(context);
      store = context.getStateStore("last");
    }

    @Override
    public void process(FixedKeyRecord<String, Reading> record) {
      Last last = store.get(record.key());
      if (last == null) {
        last = new Last();
      }
      Reading reading = record.value();
      double mean = last.add(reading.temperature);
      store.put(record.key(), last);
      context().forward(record.withValue(new Mean(reading.id, reading.sensor, mean)));
    }
  }

  private static final class Counter extends ContextualFixedKeyProcessor<String, Converted, Count> {
    private KeyValueStore<String, Long> store;

    @Override
    public void init(FixedKeyProcessorContext<String, Count> context) {
      super.init(context);
      store = context.getStateStore("counts");
    }

    @Override
    public void process(FixedKeyRecord<String, Converted> record) {
      Long before = store.get(record.key());
      long count = before == null ? 1 : before + 1;
      store.put(record.key(), count);
      Converted reading = record.value();
      context().forward(record.withValue(new Count(reading.id, reading.site, count)));
    }
  }

  private static void define(StreamsBuilder builder, String workload, String input, String output) {
    switch (workload) {
      case "W1" ->
          readings(builder, input)
              .filter((key, reading) -> reading.temperature >= 13)
              .mapValues(Workloads::convert)
              .to(output, Produced.with(KEYS, json(Converted.class)));
      case "W2" -> {
        builder.addStateStore(
            Stores.keyValueStoreBuilder(
                    Stores.persistentKeyValueStore("last"), KEYS, json(Last.class))
                .withCachingEnabled());
        readings(builder, input)
            .processValues(Averager::new, "last")
            .to(output, Produced.with(KEYS, json(Mean.class)));
      }
      case "W3" ->
          readings(builder, input)
              .groupByKey(Grouped.with(KEYS, json(Reading.class)))
              .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofSeconds(10)))
              .aggregate(
                  Sum::new,
                  (sensor, reading, sum) -> sum.add(reading),
                  Materialized.<String, Sum, WindowStore<Bytes, byte[]>>as("sums")
                      .withKeySerde(KEYS)
                      .withValueSerde(json(Sum.class)))
              // EmitStrategy.onWindowClose() emits only with a record that comes a second later.
              .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
              .toStream()
              .map(
                  (window, sum) ->
                      KeyValue.pair(
                          window.key(),
                          new WindowMean(
                              window.key(), window.window().start(), sum.total / sum.count)))
              .to(output, Produced.with(KEYS, json(WindowMean.class)));
      case "W4" -> {
        builder.addStateStore(
            Stores.keyValueStoreBuilder(
                    Stores.persistentKeyValueStore("counts"), KEYS, Serdes.Long())
                .withCachingEnabled());
        readings(builder, input)
            .mapValues(Workloads::convert)
            .selectKey((key, reading) -> reading.site)
            .repartition(Repartitioned.with(KEYS, json(Converted.class)).withName("by-site"))
            .processValues(Counter::new, "counts")
            .to(output, Produced.with(KEYS, json(Count.class)));
      }
      case "L1" -> events(builder, input).to(output);
      case "L2" -> events(builder, input).repartition(Repartitioned.as("hop")).to(output);
      default -> throw new IllegalArgumentException(workload);
    }
  }

  private static KStream<String, Reading> readings(StreamsBuilder builder, String input) {
    return builder.stream(input, Consumed.with(KEYS, json(Reading.class)));
  }

  private static KStream<byte[], byte[]> events(StreamsBuilder builder, String input) {
    return builder.stream(input, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()));
  }

  private static Properties settings(String[] job) {
    boolean exactlyOnce = job[1].equals("exactly-once");
    boolean forLatency = job[0].startsWith("L");
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, job[6]);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job[2]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, job[7]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(
        StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
        exactlyOnce ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
    if (!exactlyOnce) {
      settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    }
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 * 1024 * 1024L);
    settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
    settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.consumerPrefix("isolation.level"), "read_committed");
    settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 4000);
    // Without it a restart has to wait until the former member's session has expired (45 s).
    settings.put(StreamsConfig.consumerPrefix("group.instance.id"), "one");
    settings.put(StreamsConfig.producerPrefix("batch.size"), 256 * 1024);
    settings.put(StreamsConfig.producerPrefix("linger.ms"), forLatency ? 5 : 20);
    return settings;
  }

  /** Runs until it is told to stop. */
  public static void main(String[] job) {
    StreamsBuilder builder = new StreamsBuilder();
    define(builder, job[0], job[4], job[5]);
    KafkaStreams streams = new KafkaStreams(builder.build(), settings(job));
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }
}
