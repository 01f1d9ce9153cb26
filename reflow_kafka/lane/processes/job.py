"""What a process is asked to do: a handler, by reference, and how its results come back."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from reflow_kafka.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Job:
    """The handler of a stage as processes run it; equal jobs are one, whichever lane they belong to."""

    stage: str
    """Its name, for messages."""
    target: bytes
    """The pickled handler, which is a reference to it: its module and name."""
    collects: bool
    returns_state: bool

    @classmethod
    def of(
        cls,
        stage: str,
        target: Callable[..., Any],
        *,
        collects: bool = False,
        returns_state: bool = False,
    ) -> Self:
        """The job of running `target`.

        Args:
            stage: name of the stage.
            target: a function or class of a module. Each process builds a class once, without arguments, and
                calls its optional `open` before its first call, its optional `close` at the end; both are
                plain ``def``.
            collects: it is a generator function: the result of a call is the list of what it yields.
            returns_state: its first argument is the state. The result of a call is ``(results, state,
                cleared)``; the state is None if it was cleared, through `State` or a `Context` named ``ctx``.

        Raises:
            DefinitionError: no other process can import it.
        """
        name = getattr(target, "__qualname__", repr(target))
        try:
            pickled = pickle.dumps(target, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise DefinitionError(
                f'run_in="process" found {name}, which no other process can import ({error}); wanted a '
                "function or class of a module",
                stage=stage,
            ) from error
        if b"__main__" in pickled and not _main_is_a_file():
            raise DefinitionError(
                f'run_in="process" found {name}, defined in an interactive session, which no other process '
                "can import; put it into a module",
                stage=stage,
            )
        return cls(stage, pickled, collects, returns_state)


def _main_is_a_file() -> bool:
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and Path(file).is_file()
