"""Cases of flows that cannot work, shared by the tests of definition errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reflow_kafka import DefinitionError, Flow

Case = Callable[[Flow], object]


def handle(value: Any) -> Any:
    return value


def base_flow() -> Flow:
    """What every case starts from: a source ``rows`` and a stage ``keep`` after it."""
    flow = Flow("test")
    flow.source("rows", topic="rows")
    flow.stage(Keep(), name="keep", after="rows", outputs=["big"])
    return flow


class Keep:
    def __call__(self, value: Any) -> Any:
        return value


class Cases(dict[str, tuple[Case, str | None, tuple[str, ...]]]):
    """Cases by name; each is a function that adds what is wrong to the base flow."""

    def refused(self, stage: str | None, *words: str) -> Callable[[Case], Case]:
        """Registers a case: the stage that the error must name, and words that its message must hold."""

        def register(define: Case) -> Case:
            assert define.__name__ not in self
            self[define.__name__] = (define, stage, words)
            return define

        return register

    def check(self, case: str) -> None:
        """Building the flow fails with an error that names the stage and a line of the case itself."""
        define, stage, words = self[case]
        error = _error_of(define)
        assert [word for word in words if word not in error.message] == [], error
        assert error.stage == stage, error
        source, first = inspect.getsourcelines(define)
        file, _, line = error.where.rpartition(":")
        assert Path(file).resolve() == Path(inspect.getfile(define))
        assert first <= int(line) < first + len(source), error
        assert str(error).startswith(f"{error.where}: " + (f"stage {stage!r}: " if stage else ""))


def _error_of(define: Case) -> DefinitionError:
    flow = base_flow()
    try:
        define(flow)
        flow.spec()
    except DefinitionError as error:
        return error
    return pytest.fail("the flow was not refused")
