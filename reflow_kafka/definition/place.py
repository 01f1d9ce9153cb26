"""Where something is defined, and how an error says so."""

from __future__ import annotations

import difflib
import os
import re
import sys
import sysconfig
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from reflow_kafka.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Place:
    """The line of the user's program that defines something."""

    where: str
    """``file:line``."""
    module: str = ""
    names: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Names local to the function that defines the flow: annotations may mention them."""

    def fail(self, message: str, *, stage: str | None = None, cause: BaseException | None = None) -> NoReturn:
        """Raise a `DefinitionError` that points here."""
        raise DefinitionError(message, stage=stage, where=self.where) from cause

    def choose(self, option: str, given: Any, words: Collection[str], *, stage: str) -> Any:
        """One of some words, as it was given; anything else is refused."""
        if not is_one_of(given, words):
            self.fail(f"unknown {option}={given!r}{did_you_mean(str(given), words)}", stage=stage)
        return given


def callers_place() -> Place:
    """The place that called the function which calls this one."""
    frame = sys._getframe(2)
    is_function = frame.f_locals is not frame.f_globals
    return Place(
        where=f"{short(frame.f_code.co_filename)}:{frame.f_lineno}",
        module=frame.f_globals.get("__name__", ""),
        names=dict(frame.f_locals) if is_function else {},
    )


def is_users(file: str) -> bool:
    """Whether code of this file is the user's: neither Python's, a library's, ours, nor made at run time."""
    return not file.startswith(_FOREIGN)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` if something known is close, else the list of what is known."""
    choices = sorted(set(known))
    if close := difflib.get_close_matches(word, choices, n=1, cutoff=0.5):
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(map(repr, choices))}" if choices else ""


def is_one_of(given: object, words: Collection[str]) -> bool:
    """Whether it is one of some words; an array, say, could not even be compared with them."""
    return isinstance(given, str) and given in words


def snake_case(name: str) -> str:
    """``RateLimiter``, ``rateLimiter`` and ``rate-limiter`` → ``rate_limiter``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").strip("_")


_FOREIGN = (
    "<",
    *(sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent.parent) + os.sep,
)


def short(path: str) -> str:
    """The path as a person would type it: relative if it lies below the working directory."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
