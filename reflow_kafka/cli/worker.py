"""`reflow-kafka worker`: run flows."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from reflow_kafka.cli.program import ARGUMENTS, load_flows, log_options, option, targets
from reflow_kafka.cli.topics import create_topics
from reflow_kafka.engine.address import Address
from reflow_kafka.errors import UsageError
from reflow_kafka.log.api import MAX_STANDBYS

if TYPE_CHECKING:
    from reflow_kafka.engine.engine import Engine
    from reflow_kafka.engine.seat import Seat
    from reflow_kafka.security import Security

STOP_MARGIN = 2.0
"""Seconds beyond --shutdown-timeout after which a process that cannot stop is ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a worker was asked to do."""

    targets: tuple[str, ...]
    app_dir: Path
    bootstrap: str | None
    security: Security | None
    data_dir: Path
    engines: int
    until_end: bool
    guarantee: Literal["exactly-once", "at-least-once"]
    commit_interval: float
    shutdown_timeout: float
    standbys: int
    drop_edge: tuple[str, ...]
    http: str | None
    http_advertise: str | None
    log_level: str
    log_format: Literal["auto", "console", "json"]
    reload: bool


@click.command()
@targets
@log_options
@option(
    "--engines",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes on this machine, restarted when they crash; more than one needs --bootstrap.",
)
@option(
    "--until-end",
    is_flag=True,
    help="Finish when every source has ended, or its end at the start has been processed everywhere.",
)
@option(
    "--guarantee",
    type=click.Choice(["exactly-once", "at-least-once"]),
    default="exactly-once",
    show_default=True,
    help="Whether every event counts exactly once, or at least once with less delay per stage.",
)
@option(
    "--commit-interval",
    type=click.FloatRange(0.001, 60),
    default=0.1,
    show_default=True,
    metavar="SECONDS",
    help="Results are committed after so long at the latest, unless the processor is busy.",
)
@option(
    "--shutdown-timeout",
    type=click.FloatRange(0, min_open=True),
    default=25.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a stop by INT or TERM may take; a second signal stops at once.",
)
@option(
    "--standbys",
    type=click.IntRange(0, MAX_STANDBYS),
    default=0,
    show_default=True,
    metavar="N",
    help="Copies of each lane's state that other engines keep, for a fast fail-over; needs --bootstrap.",
)
@option(
    "--drop-edge",
    multiple=True,
    metavar="TOPIC",
    help="Give up the unprocessed events of an edge that the flow no longer has.",
)
@option(
    "--http",
    metavar="HOST:PORT",
    help="Answer queries about state over HTTP; a PORT alone is for this machine only.",
)
@option(
    "--http-advertise",
    metavar="HOST:PORT",
    help="Where other engines reach that, if it is elsewhere; default: there, or this machine's name.",
)
@option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="What is logged to standard error.",
)
@option(
    "--log-format",
    type=click.Choice(["auto", "console", "json"]),
    default="auto",
    show_default=True,
    help="Lines for people or JSON lines; auto: for people on a terminal, JSON elsewhere.",
)
@option("--reload", is_flag=True, help="Start anew when code changes; for development.")
@click.pass_context
def worker(context: click.Context, /, **given: object) -> None:
    """Run the flows that TARGETs name in one engine, on Kafka or on the embedded log.

    Start it on as many machines as wanted: they divide the work, and take over from each other.
    """
    from reflow_kafka.engine.seat import Seat

    options = Options(**given)  # type: ignore[arg-type]
    if options.standbys and options.bootstrap is None:
        raise UsageError(
            f"--standbys {options.standbys} needs --bootstrap: copies are kept by other engines, "
            "and the embedded log is open in one process only"
        )
    if options.http_advertise is not None and options.http is None:
        raise UsageError(f"--http-advertise {options.http_advertise} needs --http")
    seat = Seat.given()
    if seat is None and (options.engines > 1 or options.reload):
        context.exit(_supervise(options, cast("list[str]", context.meta[ARGUMENTS])))
    if seat is not None:
        seat.take()
    _run(options, seat)


def _run(options: Options, seat: Seat | None) -> None:
    from reflow_kafka.cli.display import Display

    # Several engines share the terminal: they write lines, and only their supervisor draws.
    shared = seat is not None and options.engines > 1
    display = Display(
        options.log_level, options.log_format, shared_by=seat.instance if seat and shared else ""
    )
    flows = load_flows(options.targets, options.app_dir)
    for flow in flows:
        flow.spec()  # what is wrong with it shows before anything is opened
    if shared:
        # What there is to say about topics the supervisor has said.
        logging.getLogger("reflow_kafka.engine.preparation").setLevel(logging.ERROR)
    else:
        display.banner(flows, options.bootstrap, options.data_dir)
    from reflow_kafka.engine.engine import Engine
    from reflow_kafka.engine.run import run_engine

    def make() -> Engine:
        return Engine(
            *flows,
            bootstrap=options.bootstrap,
            security=options.security,
            data_dir=options.data_dir,
            guarantee=options.guarantee,
            commit_interval=options.commit_interval,
            shutdown_timeout=options.shutdown_timeout,
            standbys=options.standbys,
            drop_edges=options.drop_edge,
            http=_own(options.http, seat, "--http"),
            http_advertise=_own(options.http_advertise, seat, "--http-advertise"),
            instance=seat.instance if seat else None,
            started=seat.started if seat else None,
        )

    run_engine(
        make,
        until_end=options.until_end,
        beside=display.beside,
        give_up_after=options.shutdown_timeout + STOP_MARGIN,
    )


def _own(address: str | None, seat: Seat | None, what: str) -> str | None:
    """The address of one of several engines of this machine: they have ports one after the other."""
    if address is None:
        return None
    first = Address.read(address, what)
    number = seat.number if seat is not None and first.port else 0
    return str(Address.read(str(Address(first.host, first.port + number)), what))


def _supervise(options: Options, arguments: list[str]) -> int:
    from reflow_kafka.cli.display import Display
    from reflow_kafka.engine.restarts import Policy
    from reflow_kafka.engine.supervisor import Supervisor

    if options.engines > 1 and options.bootstrap is None:
        raise UsageError(
            f"--engines {options.engines} needs --bootstrap: the embedded log is open in one process only"
        )
    changes = _changes(options) if options.reload else ()
    display = Display(options.log_level, options.log_format)
    if not options.reload:
        # What is wrong with targets, address or topics is found here, and said once.
        flows = load_flows(options.targets, options.app_dir)
        display.banner(flows, options.bootstrap, options.data_dir, engines=options.engines)
        creating = create_topics(
            flows,
            options.bootstrap,
            options.data_dir,
            security=options.security,
            drop_edges=options.drop_edge,
        )
        asyncio.run(creating)
    return Supervisor(
        [sys.executable, "-m", "reflow_kafka", *arguments],
        options.engines,
        policy=Policy(until_end=options.until_end, reload=options.reload),
        shutdown_timeout=options.shutdown_timeout + STOP_MARGIN,
        changes=changes,
    ).run()


def _changes(options: Options) -> Iterable[object]:
    """Yields whenever a file of code changes beside a target or in the directory of modules."""
    try:
        from watchfiles import PythonFilter, watch
    except ImportError:
        raise UsageError("--reload needs watchfiles: pip install 'reflow-kafka[reload]'") from None
    files = (options.app_dir / target.partition(":")[0] for target in options.targets)
    folders = {options.app_dir, *(file.parent for file in files if file.is_file())}
    return watch(*folders, watch_filter=PythonFilter(), raise_interrupt=False)
