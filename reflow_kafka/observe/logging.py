"""How the command line logs: lines for people on a terminal, JSON lines for everything else.

Only the command line configures logging. Programs that use the library own theirs: it writes to loggers below
``reflow_kafka``, with `flow`, `stage` and `lane` as structured extras.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

LogFormat = Literal["auto", "console", "json"]
PLACE = ("flow", "stage", "lane")
"""Extras that say where something happened."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "dim"}


def configure(
    level: str = "INFO", format: LogFormat = "auto", *, console: Console | None = None, engine: str = ""
) -> None:
    """Log everything of this process to standard error, from `level` on.

    Args:
        level: name of a level.
        format: ``auto`` = ``console`` on a terminal, ``json`` elsewhere.
        console: where console lines go, shared with whatever else draws there.
        engine: name of this engine among those that share the output; it stands in every line.
    """
    handler: logging.Handler
    if chosen(format) == "console":
        handler = ConsoleHandler(console or stderr_console())
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
    if engine:
        handler.addFilter(_Named(engine))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # The client complains at every attempt; what becomes of it in the end the engine says itself, once.
    logging.getLogger("aiokafka").setLevel("DEBUG" if root.level <= logging.DEBUG else "CRITICAL")
    logging.getLogger("asyncio").setLevel("WARNING")
    logging.captureWarnings(True)


def chosen(format: LogFormat) -> Literal["console", "json"]:
    """What ``auto`` means here."""
    if format == "auto":
        return "console" if sys.stderr.isatty() else "json"
    return format


def stderr_console() -> Console:
    """The console for people: standard error, since standard output belongs to data."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What was logged with a message beyond its text: the place first, then the rest."""
    fields = vars(record)
    given = {name: fields[name] for name in PLACE if name in fields}
    given.update((name, value) for name, value in fields.items() if name not in _OWN)
    return given


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, then the extras."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in extras(record).items() if name not in line)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


class ConsoleHandler(logging.Handler):
    """One line per record: time, level unless it is INFO, place, message; a traceback below it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record above whatever is being drawn."""
        try:
            self._console.print(self.line(record), soft_wrap=True)
            if record.exc_info and record.exc_info[0] is not None:
                trace = "".join(traceback.format_exception(*record.exc_info))
                self._console.print(trace.rstrip(), style="dim", markup=False, soft_wrap=True)
        except Exception:
            self.handleError(record)

    def line(self, record: logging.LogRecord) -> Any:
        """The record as styled text."""
        from rich.text import Text

        style = _STYLES.get(record.levelname, "")
        text = Text()
        text.append(time.strftime("%H:%M:%S", time.localtime(record.created)), style="dim")
        if record.levelno != logging.INFO:
            text.append(f" {record.levelname.lower()}", style=style)
        if engine := getattr(record, "engine", None):
            text.append(f" [{engine}]", style="dim")
        if where := place(record):
            text.append(f" {where}", style="cyan")
        text.append(f" {record.getMessage()}", style=style if record.levelno > logging.INFO else "")
        return text


def place(record: logging.LogRecord) -> str:
    """Flow, stage and lane of a record, as far as they are known: ``weather.average[3]``."""
    flow, stage, lane = (getattr(record, name, None) for name in PLACE)
    path = ".".join(str(part) for part in (flow, stage) if part)
    return f"{path}[{lane}]" if lane is not None else path


class _Named(logging.Filter):
    def __init__(self, engine: str) -> None:
        super().__init__()
        self._engine = engine

    def filter(self, record: logging.LogRecord) -> bool:
        record.engine = self._engine
        return True
