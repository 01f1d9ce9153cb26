# An image with the library and the examples; docker-compose.kafka.yml runs its workers from it.
FROM python:3.11-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY reflow_kafka ./reflow_kafka
COPY connectors ./connectors
RUN pip install --no-cache-dir '.[fast]'
COPY examples ./examples

# Local state outlives a container only if it is mounted here; without it, it is restored from Kafka.
RUN useradd --create-home reflow && mkdir /data && chown reflow /data
USER reflow
ENV REFLOW_DATA_DIR=/data

ENTRYPOINT ["reflow-kafka"]
CMD ["--help"]
