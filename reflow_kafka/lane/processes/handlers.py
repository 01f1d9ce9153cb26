"""How a process finds the handlers that its engine knows."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.wire import Setup

log = logging.getLogger(__name__)


class Handlers:
    """Finds handlers as the engine's own process knows them."""

    def __init__(self) -> None:
        self.loaded: dict[int, Callable[..., Any]] = {}
        """By number of the job."""
        self.main: Mapping[str, Any] | None = None
        """How to import ``__main__``, as long as that was not needed."""

    def set_up(self, setup: Setup) -> None:
        sys.path[:] = setup.path
        sys.argv[:] = setup.argv
        sys.meta_path.insert(0, _Files(setup.files))
        self.main = setup.main

    def load(self, number: int, job: Job) -> Callable[..., Any]:
        if b"__main__" in job.target:
            self.import_main()
        target = pickle.loads(job.target)  # noqa: S301 - from our own engine
        if inspect.isclass(target):
            target = target()
            _plain(target, "open")
        self.loaded[number] = target
        return target  # type: ignore[no-any-return]

    def import_main(self) -> None:
        """Import the engine's ``__main__``, under the name that does not start it."""
        if self.main is None:
            return
        from multiprocessing import spawn

        spawn.prepare(dict(self.main))
        self.main = None

    def close(self) -> None:
        for target in self.loaded.values():
            if inspect.isroutine(target):
                continue
            try:
                _plain(target, "close")
            except Exception:
                log.exception("closing %s failed", name_of(target))


def _plain(target: Any, method: str) -> None:
    function = getattr(target, method, None)
    if function is not None and inspect.isawaitable(function()):
        raise TypeError(f'{name_of(target)} has an async {method}(), wanted a plain one for run_in="process"')


class _Files(MetaPathFinder):
    """Finds modules that the engine has loaded from a path."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        return None if file is None else importlib.util.spec_from_file_location(fullname, file)


def name_of(value: object) -> str:
    """What kind of object it is."""
    kind = type(value)
    return f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")
