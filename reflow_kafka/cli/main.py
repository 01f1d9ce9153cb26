"""`reflow-kafka`: run flows and look at what they do.

Each command stands in a file of its own and imports what is heavy only when it runs, so that ``--help`` and
``describe`` answer at once.
"""

from __future__ import annotations

import click

from reflow_kafka.cli.consume import consume
from reflow_kafka.cli.describe import describe
from reflow_kafka.cli.dev_broker import dev_broker
from reflow_kafka.cli.produce import produce
from reflow_kafka.cli.program import USAGE, Program
from reflow_kafka.cli.topics import topics
from reflow_kafka.cli.worker import worker


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"reflow-kafka {version('reflow-kafka')}")
        context.exit()


@click.group(
    cls=Program,
    invoke_without_command=True,
    context_settings={
        "auto_envvar_prefix": "REFLOW",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    allow_from_autoenv=False,  # REFLOW_VERSION may well name a release of something
    callback=_show_version,
    help="Show the version and end.",
)
@click.pass_context
def main(context: click.Context) -> None:
    """Durable, stateful stream processing on Kafka, in plain Python functions.

    A TARGET is module:flow, or path/to/file.py[:flow]. Every option can be given as an environment variable.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE)


for command in (worker, describe, topics, produce, consume, dev_broker):
    main.add_command(command)
