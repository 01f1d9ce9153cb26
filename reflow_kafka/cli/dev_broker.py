"""`reflow-kafka dev-broker`: Kafka mode without Docker and without installing Kafka."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from reflow_kafka.errors import ReflowError


@click.command("dev-broker")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=9092, show_default=True, help="Port to listen on."
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where topics are kept for the next start; without it they are gone at the end.",
)
def dev_broker(port: int, data_dir: Path | None) -> None:
    """Run a real Kafka broker on this machine until Ctrl-C. Needs Java 17 and, the first time, Maven."""
    from reflow_kafka.devbroker import KAFKA_VERSION, DevBroker

    # TERM ends it like Ctrl-C: in order, with nothing left behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        click.echo(f"starting Apache Kafka {KAFKA_VERSION} …", err=True)
        with DevBroker(port=port, data_dir=data_dir) as broker:
            click.echo(broker.bootstrap)
            click.echo("stop it with Ctrl-C", err=True)
            broker.wait()
            raise ReflowError(f"the broker ended by itself: {broker.last_words()}")
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    except ReflowError as error:
        raise click.ClickException(str(error)) from None
    finally:
        signal.signal(signal.SIGTERM, before)
