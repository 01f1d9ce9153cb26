"""`reflow-kafka describe`: what a flow consists of."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from reflow_kafka.cli.program import load_flows, targets


@click.command()
@targets
@click.option(
    "--format",
    type=click.Choice(["tree", "text", "json", "mermaid", "dot"]),
    default="tree",
    show_default=True,
    show_envvar=True,
    help="How to show it: for people (tree, text), programs (json) or drawing (mermaid, dot).",
)
def describe(
    targets: tuple[str, ...], app_dir: Path, format: Literal["tree", "text", "json", "mermaid", "dot"]
) -> None:
    """Show the stages and topics of flows; nothing is opened or run."""
    for flow in load_flows(targets, app_dir):
        click.echo(flow.describe(format).rstrip("\n"))
