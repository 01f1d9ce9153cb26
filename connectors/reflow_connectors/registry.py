"""Connectors by name, as YAML flows and command lines give them.

A package registers its connectors as entry points in the groups ``reflow_kafka.sources`` and
``reflow_kafka.sinks``; nothing is imported until it is asked for.
"""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from reflow_kafka.errors import UsageError

SOURCES = "reflow_kafka.sources"
SINKS = "reflow_kafka.sinks"


def find_source(name: str) -> Any:
    """The source registered as `name`: a class or factory that takes the source's options.

    Raises:
        UsageError: there is none of that name, or it cannot be imported; the message says what there is.
    """
    return _find(SOURCES, "source", name)


def find_sink(name: str) -> Any:
    """The sink registered as `name`: a class or factory that takes the sink's options.

    Raises:
        UsageError: there is none of that name, or it cannot be imported; the message says what there is.
    """
    return _find(SINKS, "sink", name)


def names(group: str) -> list[str]:
    """What is registered in `group` (`SOURCES` or `SINKS`)."""
    return sorted({found.name for found in entry_points(group=group)})


def _find(group: str, kind: str, name: str) -> Any:
    # Two packages of one name: the same one wins on every machine.
    found = sorted(entry_points(group=group, name=name), key=lambda point: point.value)
    if not found:
        known = names(group)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise UsageError(f"no {kind} is called {name!r}{hint} Available: {', '.join(known) or 'none'}")
    point = found[0]
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{kind} {name!r} cannot be loaded from {_origin(point)}: {error}") from error


def _origin(point: EntryPoint) -> str:
    package = f" of {point.dist.name}" if point.dist is not None else ""
    return f"{point.value}{package}"
