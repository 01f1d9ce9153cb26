"""What all commands share: how they report errors, where options come from, and the options of several.

Exit codes: 0 done, 1 crashed, 2 wrong usage or import, 3 no broker, 4 invalid flow or topics that do not fit.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reflow_kafka.cli.security import security_options
from reflow_kafka.errors import BrokerUnavailable, DefinitionError, ReflowError, TopologyMismatch, UsageError

if TYPE_CHECKING:
    from reflow_kafka.flow import Flow

F = TypeVar("F", bound=Callable[..., Any])

CRASHED, USAGE, NO_BROKER, INVALID = 1, 2, 3, 4
_CODES = {
    UsageError: USAGE,
    BrokerUnavailable: NO_BROKER,
    DefinitionError: INVALID,
    TopologyMismatch: INVALID,
}
ARGUMENTS = "reflow_kafka.arguments"
"""Key in a context's `meta`: the command line as it was given."""


def exit_code(error: ReflowError) -> int:
    """The exit code for an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), CRASHED)


class Program(click.Group):
    """A group of commands whose errors are one sentence and an exit code; only real crashes show a trace."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command line and end the process, as click's own does."""
        extra["standalone_mode"] = False
        sys.exit(self._run(lambda: super(Program, self).main(args, *rest, **extra)))

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """A context that remembers the command line: a supervisor starts its engines with the same."""
        given = list(args)
        context = super().make_context(info_name, args, *rest, **extra)
        context.meta[ARGUMENTS] = given
        return context

    def _run(self, run: Callable[[], Any]) -> int:
        try:
            return run() or 0
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "reflow-kafka"
            return _report(f"{error.format_message().rstrip('.')} (see {path} --help)", USAGE)
        except click.ClickException as error:
            return _report(error.format_message(), error.exit_code)
        except click.Abort:
            return _report("aborted", CRASHED)
        except ReflowError as error:
            return _report(str(error), exit_code(error))
        except BaseExceptionGroup as group:
            return self._report_group(group)
        except Exception:
            traceback.print_exc()
            return CRASHED

    @staticmethod
    def _report_group(group: BaseExceptionGroup[BaseException]) -> int:
        """Of several things that went wrong at once, those raised on purpose say why."""
        known, other = group.split(ReflowError)
        if other is not None or known is None:
            traceback.print_exception(group)
            return CRASHED
        errors = list(_leaves(known))
        for error in errors:
            _report(str(error), CRASHED)
        return exit_code(errors[0])


def _leaves(group: BaseExceptionGroup[ReflowError]) -> list[ReflowError]:
    found: list[ReflowError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _report(message: str, code: int) -> int:
    click.echo(f"error: {message}" if message != "aborted" else message, err=True)
    return code


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option with the variable ``REFLOW_<NAME>``: for a worker, and for what means the same everywhere.

    Options of other commands have ``REFLOW_<COMMAND>_<NAME>``, which click derives itself.
    """
    long = next(name for name in names if name.startswith("--"))
    variable = long.split("/")[0].strip().removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=f"REFLOW_{variable}", show_envvar=True, **settings)


def _addresses(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    if given is None:
        return None
    addresses = [address.strip() for address in given.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536):
            raise click.BadParameter(f"{address!r} is no HOST:PORT.", context, parameter)
    return ",".join(addresses)


def targets(function: F) -> F:
    """The argument TARGET… and the option that says where modules are found."""
    argument = click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
    return argument(_app_dir(function))


def load_flows(targets: Iterable[str], app_dir: Path) -> list[Flow]:
    """The flows that targets name.

    Raises:
        UsageError: a target names none, or two name flows of one name.
        DefinitionError: a flow cannot work as it is written.
    """
    from reflow_kafka.load import load

    found: dict[str, Flow] = {}
    for target in targets:
        flow = load(target, app_dir)
        if flow.name in found:
            raise UsageError(f"target {target!r}: flow {flow.name!r} was already given by another target")
        found[flow.name] = flow
    return list(found.values())


def topic(function: F) -> F:
    """The argument TOPIC: what Kafka would refuse as a name is refused, also for the embedded log."""
    return click.argument("topic", callback=_topic)(function)


def _topic(context: click.Context, parameter: click.Parameter, given: str) -> str:
    from reflow_kafka.definition.arguments import TOPIC_NAMES, is_topic_name

    if not is_topic_name(given):
        raise click.BadParameter(
            f"{given!r} is no name of a Kafka topic ({TOPIC_NAMES}).", context, parameter
        )
    return given


def log_options(function: F) -> F:
    """Which log: Kafka's address and how to connect to it, or the directory of the embedded one."""
    return _bootstrap(security_options(_data_dir(function)))


_app_dir = option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Directory from which the modules of targets are imported.",
)
_bootstrap = option(
    "--bootstrap",
    callback=_addresses,
    metavar="HOST:PORT[,...]",
    help="Addresses of Kafka brokers; without it the embedded log in --data-dir is used.",
)
_data_dir = option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=".reflow",
    show_default=True,
    help="Directory of the embedded log and of local state.",
)
