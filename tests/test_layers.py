"""The shape of the house: imports go downwards, the pure parts stay pure, files stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "reflow_kafka": ROOT / "reflow_kafka",
    "reflow_connectors": ROOT / "connectors" / "reflow_connectors",
}

# Higher may import lower, never the other way round; state and log stand side by side.
LAYERS = {
    "cli": 7,
    "testing": 7,
    "engine": 6,
    "client": 6,
    "lane": 5,
    "timed": 4,
    "state": 3,
    "log": 3,
    "observe": 2,
    "surface": 2,
    "topology": 2,
    "definition": 1,
    "serde": 0,
}

PURE = (
    "definition",
    "topology",
    "client/answer.py",
    "client/entry.py",
    "engine/crowd.py",
    "engine/restarts.py",
    "lane/bucket.py",
    "lane/careful.py",
    "lane/concurrency.py",
    "lane/inflight.py",
    "lane/line.py",
    "lane/lines.py",
    "lane/order.py",
    "lane/pace.py",
    "lane/putoff.py",
    "lane/record.py",
    "lane/refusals.py",
    "lane/share.py",
    "lane/taking.py",
    "log/kafka/assignor.py",
    "log/kafka/claim.py",
    "log/kafka/dealing.py",
    "log/kafka/holding.py",
    "log/local/retention.py",
    "state/judge.py",
    "state/ordered.py",
    "surface",
    "timed",
)
IMPURE = {"asyncio", "socket", "time", "threading", "aiokafka", "rocksdict"}

LINES = 400


def files() -> list[Path]:
    return sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))


def name_of(path: Path) -> str:
    root = next(folder for folder in PACKAGES.values() if path.is_relative_to(folder))
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import that happens at run time, those inside functions included."""
    tree = ast.parse(path.read_text())
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            # `from reflow_kafka import lane` imports a module, too.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`, which no program ever runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from _running(other)
            continue
        yield node
        yield from _running(node)


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "reflow_kafka" and len(parts) > 1 and parts[1] in LAYERS else None


def is_seam(module: str) -> bool:
    """`log.api` says what a log is, without any log: it lies below state and lane."""
    return module == "reflow_kafka.log" or f"{module}.".startswith("reflow_kafka.log.api.")


def test_imports_go_downwards() -> None:
    wrong = []
    for path in files():
        here = layer_of(name_of(path))
        for line, module in imports(path):
            there = layer_of(module)
            if here is None or there is None or here == there:
                continue
            if LAYERS[there] >= LAYERS[here] and not (here == "state" and is_seam(module)):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {module}")
    assert wrong == []


def test_lanes_and_state_know_no_particular_log() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in files()
        if layer_of(name_of(path)) in {"lane", "state"}
        for line, module in imports(path)
        if layer_of(module) == "log" and not is_seam(module)
    ]
    assert wrong == []


@pytest.mark.parametrize("part", PURE)
def test_pure_parts_do_no_io_and_know_no_clock(part: str) -> None:
    place = PACKAGES["reflow_kafka"] / part
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))
        for line, module in imports(path)
        if module.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_what_waits_or_dates_something_asks_the_clock() -> None:
    """So that tests can move it (`reflow_kafka.clock`). Processes share theirs with those they run in."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: time.{node.attr}"
        for layer in ("lane", "engine", "client", "log/local")
        for path in sorted((PACKAGES["reflow_kafka"] / layer).rglob("*.py"))
        if not path.is_relative_to(PACKAGES["reflow_kafka"] / "lane" / "processes")
        and path.stem != "supervisor"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
        if node.attr in {"monotonic", "time", "time_ns", "monotonic_ns"}
    ]
    assert wrong == []


def test_nothing_is_unpickled_or_evaluated_from_data() -> None:
    """Pickles pass only between an engine and its own processes; code that is compiled is the library's."""
    wrong = []
    for path in files():
        place = str(path.relative_to(ROOT))
        for line, module in imports(path):
            if module.split(".")[0] in {"pickle", "marshal", "shelve"} and "lane/processes/" not in place:
                wrong.append(f"{place}:{line}: {module}")
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called in {"eval", "exec"} and not place.endswith("lane/compile.py"):
                wrong.append(f"{place}:{node.lineno}: {called}")
    assert wrong == []


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files()}
    assert {name: lines for name, lines in lengths.items() if lines > LINES} == {}
