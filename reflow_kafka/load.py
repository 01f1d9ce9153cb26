"""Find a flow by what a person types: ``module:flow``, ``module:attribute.flow`` or ``path/file.py[:flow]``.

An error that the user's own module raises is never mistaken for a wrong target: it is the cause of the
`UsageError`, which names the line of theirs where it was raised. What the flow's definition itself refuses
stays a `DefinitionError`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from reflow_kafka.definition.place import did_you_mean, is_users
from reflow_kafka.errors import DefinitionError, UsageError
from reflow_kafka.flow import Flow

FORMS = "module:flow, module:attribute.flow or path/file.py[:flow]"

FILES: dict[str, str] = {}
"""Modules that were loaded from a path, by name: no import would find them where they are."""

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<attribute>[^:/\\]*))?")
_MODULE = re.compile(r"(?P<module>\w+(?:\.\w+)*):(?P<attribute>\w+(?:\.\w+)*)")


def load(target: str, app_dir: str | Path = ".") -> Flow:
    """The flow that `target` names; modules and relative paths are looked up in `app_dir`.

    Raises:
        UsageError: there is no such file, module or flow, or importing it failed.
        DefinitionError: the flow found there is defined wrongly.
    """
    folder = Path(app_dir).resolve()
    if not folder.is_dir():
        raise UsageError(f"target {target!r}: there is no folder {str(app_dir)!r} to look it up in")
    if found := _FILE.fullmatch(target):
        module = _import_file(target, folder, folder / found["path"])
        name = found["attribute"]
        if name == "":
            raise UsageError(f"target {target!r} ends with ':'; write {target}flow, or leave the ':' out")
        return _only_flow(target, module) if name is None else _flow_at(target, module, name)
    if found := _MODULE.fullmatch(target):
        return _flow_at(target, _import_module(target, folder, found["module"]), found["attribute"])
    raise UsageError(f"target {target!r} is not of the form {FORMS}")


# ---- importing


def _import_module(target: str, folder: Path, name: str) -> ModuleType:
    _look_in(folder)
    try:
        return importlib.import_module(name)
    except DefinitionError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            message = (
                f"target {target!r}: there is no module {error.name!r} in {folder} or among what is installed"
            )
            raise UsageError(message) from None
        raise _failed(target, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(target, error) from error


def _import_file(target: str, folder: Path, path: Path) -> ModuleType:
    if not _is_file(path):
        raise UsageError(f"target {target!r:.300}: there is no file {str(path)!r:.300}")
    _look_in(folder)
    _look_in(path.parent.resolve())
    path = path.resolve()
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, DefinitionError) or not isinstance(error, Exception | SystemExit):
            raise
        raise _failed(target, error) from error
    FILES[name] = str(path)
    return module


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that must not be looked into
        return False


def _look_in(folder: Path) -> None:
    """Let imports find what lies in the folder, as Python does for a script's own folder."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _module_name(path: Path) -> str:
    """The file's own name, by which others may import it too, unless another module bears it already."""
    bearer = sys.modules.get(path.stem)
    taken_by = None if bearer is None else getattr(bearer, "__file__", None)
    is_free = bearer is None and path.stem not in sys.stdlib_module_names and path.stem.isidentifier()
    if is_free or (taken_by is not None and Path(taken_by).resolve() == path):
        return path.stem
    return f"{path.stem}_{zlib.crc32(str(path).encode()):08x}"


def _failed(target: str, error: BaseException) -> UsageError:
    if isinstance(error, SystemExit):
        what = f"it ends the program (SystemExit: {error.code})"
    else:
        what = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return UsageError(f"target {target!r} cannot be imported: {what} ({_users_line(error)})")


def _users_line(error: BaseException) -> str:
    """``file:line`` of the innermost frame that is the user's: neither Python's, a library's nor ours."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    frames = list(_frames(error.__traceback__))
    own = [(file, line) for file, line in frames if is_users(file)]
    file, line = (own or frames)[-1]
    return f"{file}:{line}"


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


# ---- finding the flow


def _flow_at(target: str, module: ModuleType, attribute: str) -> Flow:
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = f"module {module.__name__!r}" if found is module else repr(attribute.rpartition(".")[0])
            hint = did_you_mean(name, _flows(module)) or f"; there is no Flow in module {module.__name__!r}"
            raise UsageError(f"target {target!r}: {where} has no attribute {name!r}{hint}") from None
        except Exception as error:  # whatever runs there when it is asked for
            raise _failed(target, error) from error
    if not isinstance(found, Flow):
        hint = did_you_mean(attribute, _flows(module))
        kind = type(found).__name__
        raise UsageError(f"target {target!r}: {attribute!r} is of type {kind}, not a Flow{hint}")
    return found


def _only_flow(target: str, module: ModuleType) -> Flow:
    flows = _flows(module)
    if not flows:
        raise UsageError(f"target {target!r}: there is no Flow in it; write flow = Flow('name')")
    if len(set(flows.values())) > 1:
        choices = " or ".join(f"{target}:{name}" for name in flows)
        raise UsageError(f"target {target!r}: there are several flows in it; say which one: {choices}")
    return next(iter(flows.values()))


def _flows(module: ModuleType) -> dict[str, Flow]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Flow)}
