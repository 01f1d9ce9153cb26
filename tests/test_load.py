"""Finding a flow by what a person types."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reflow_kafka import DefinitionError, Flow, UsageError
from reflow_kafka.load import load

FLOW = "from reflow_kafka import Flow\nflow = Flow('weather')\n"
Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def imports_forgotten() -> Iterator[None]:
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def refusal(target: str, folder: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(target, folder)
    assert "\n" not in str(caught.value)
    return caught.value


# ---- what is found


def test_a_flow_in_a_module(write: Write, tmp_path: Path) -> None:
    write("app_one.py", FLOW)
    assert load("app_one:flow", tmp_path).name == "weather"


def test_a_flow_in_a_package_and_an_attribute(write: Write, tmp_path: Path) -> None:
    write("shop/__init__.py", "")
    write("shop/orders.py", FLOW + "class Flows:\n    main = flow\n")
    assert load("shop.orders:Flows.main", tmp_path).name == "weather"


def test_a_flow_in_a_file(write: Write, tmp_path: Path) -> None:
    path = write("deep/down/app_two.py", FLOW)
    flow = load("deep/down/app_two.py", tmp_path)
    assert load(f"{path}:flow", tmp_path) is flow
    assert load(str(path), "/") is flow


def test_the_working_directory_is_the_default(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("app_three.py", FLOW)
    monkeypatch.chdir(tmp_path)
    assert load("app_three.py").name == load("app_three:flow").name == "weather"


def test_a_file_finds_its_neighbours(write: Write, tmp_path: Path) -> None:
    write("pipelines/app_helper.py", "NAME = 'helped'")
    write(
        "pipelines/app_four.py", "from app_helper import NAME\nfrom reflow_kafka import Flow\nf = Flow(NAME)"
    )
    assert load("pipelines/app_four.py", tmp_path).name == "helped"


def test_files_of_one_name_in_two_folders(write: Write, tmp_path: Path) -> None:
    write("a/app_five.py", FLOW)
    write("b/app_five.py", FLOW.replace("weather", "traffic"))
    assert [load(f"{folder}/app_five.py", tmp_path).name for folder in "ab"] == ["weather", "traffic"]


def test_a_file_named_like_a_standard_module(write: Write, tmp_path: Path) -> None:
    write("json.py", FLOW)
    assert load("json.py", tmp_path).name == "weather"
    import json

    assert json.loads("1") == 1


def test_the_same_flow_under_two_names_is_one(write: Write, tmp_path: Path) -> None:
    write("app_six.py", FLOW + "app = flow\n")
    assert load("app_six.py", tmp_path).name == "weather"


def test_annotations_of_the_file_are_resolved(write: Write, tmp_path: Path) -> None:
    write(
        "app_seven.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\n" + FLOW + "@dataclass\n"
        "class Row:\n    a: int\nflow.source('rows', topic='rows')\n"
        "@flow.stage(after='rows')\ndef keep(row: Row) -> Row: return row\n",
    )
    handler = load("app_seven.py", tmp_path).spec().stage("keep").handler
    assert handler is not None
    assert handler.value_type.__name__ == "Row"


# ---- what is not


@pytest.mark.parametrize(
    "target", ["app", "app:", ":flow", "a b:flow", "app.py.txt", "app:flow:more", "", "-m"]
)
def test_no_target(target: str, tmp_path: Path) -> None:
    error = refusal(target, tmp_path)
    assert str(error) == (
        f"target {target!r} is not of the form module:flow, module:attribute.flow or path/file.py[:flow]"
    )


def test_a_colon_without_name(tmp_path: Path, write: Write) -> None:
    write("app.py", FLOW)
    assert "ends with ':'" in str(refusal("app.py:", tmp_path))


def test_no_such_folder(tmp_path: Path) -> None:
    assert "there is no folder" in str(refusal("app:flow", tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("target", "missing"), [("nowhere:flow", "nowhere"), ("reflow_kafka.no:flow", "reflow_kafka.no")]
)
def test_no_such_module(target: str, missing: str, tmp_path: Path) -> None:
    error = refusal(target, tmp_path)
    assert f"there is no module {missing!r} in {tmp_path} or among what is installed" in str(error)
    assert error.__cause__ is None


def test_no_such_file(tmp_path: Path) -> None:
    assert f"there is no file {str(tmp_path / 'no.py')!r}" in str(refusal("no.py:flow", tmp_path))


def test_no_such_attribute(write: Write, tmp_path: Path) -> None:
    write("app_a.py", FLOW)
    assert "module 'app_a' has no attribute 'flw'; did you mean 'flow'?" in str(
        refusal("app_a:flw", tmp_path)
    )
    assert "'flow' has no attribute 'x'; there is 'flow'" in str(refusal("app_a.py:flow.x", tmp_path))


def test_no_flow(write: Write, tmp_path: Path) -> None:
    write("app_b.py", FLOW + "number = 3\n")
    assert "'number' is of type int, not a Flow; there is 'flow'" in str(refusal("app_b:number", tmp_path))
    write("app_c.py", "number = 3\n")
    assert "there is no Flow in it; write flow = Flow('name')" in str(refusal("app_c.py", tmp_path))
    assert "has no attribute 'flow'; there is no Flow in module 'app_c'" in str(
        refusal("app_c:flow", tmp_path)
    )


def test_several_flows(write: Write, tmp_path: Path) -> None:
    write("app_d.py", FLOW + "other = Flow('other')\n")
    error = refusal("app_d.py", tmp_path)
    assert str(error).endswith("say which one: app_d.py:flow or app_d.py:other")
    assert load("app_d.py:other", tmp_path).name == "other"


# ---- what goes wrong inside the user's module


@pytest.mark.parametrize("target", ["app_e.py", "app_e:flow"])
@pytest.mark.parametrize(
    ("text", "says", "line", "cause"),
    [
        (FLOW + "1 / 0\n", "ZeroDivisionError: division by zero", 3, ZeroDivisionError),
        ("import missing_library\n", "No module named 'missing_library'", 1, ModuleNotFoundError),
        ("import json\njson.loads('x')\n", "JSONDecodeError: Expecting value", 2, ValueError),
        ("x = 1\nflow = = 3\n", "SyntaxError: invalid syntax", 2, SyntaxError),
        ("import sys\n\nsys.exit(3)\n", "it ends the program (SystemExit: 3)", 3, SystemExit),
    ],
)
def test_an_error_in_the_module_is_its_own(
    target: str, text: str, says: str, line: int, cause: type[BaseException], write: Write, tmp_path: Path
) -> None:
    path = write("app_e.py", text)
    error = refusal(target, tmp_path)
    assert str(error).startswith(f"target {target!r} cannot be imported: ")
    assert says in str(error)
    assert str(error).endswith(f"({path}:{line})")
    assert isinstance(error.__cause__, cause)
    assert "app_e" not in sys.modules


def test_the_innermost_line_of_the_users_own(write: Write, tmp_path: Path) -> None:
    helper = write("app_inner.py", "def boom():\n    raise RuntimeError('inside')\n")
    write("app_j.py", "import app_inner\napp_inner.boom()\n")
    assert str(refusal("app_j:flow", tmp_path)).endswith(f"RuntimeError: inside ({helper}:2)")


def test_a_submodule_missing_inside_is_not_the_target(write: Write, tmp_path: Path) -> None:
    write("app_pkg/__init__.py", "import app_pkg.gone\n")
    assert "cannot be imported: ModuleNotFoundError" in str(refusal("app_pkg:flow", tmp_path))


@pytest.mark.parametrize("target", ["app_k.py", "app_k:flow"])
def test_a_wrong_definition_stays_one(target: str, write: Write, tmp_path: Path) -> None:
    path = write("app_k.py", FLOW + "flow.stage(len)\n")
    with pytest.raises(DefinitionError) as caught:
        load(target, tmp_path)
    assert caught.value.where == f"{path}:3"


def test_a_flow_is_a_flow(write: Write, tmp_path: Path) -> None:
    write("app_l.py", FLOW)
    assert isinstance(load("app_l.py", tmp_path), Flow)
