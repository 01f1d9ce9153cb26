"""The command line with any values: exit code 1 to 4 and one message that says what is wrong, or it works."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.cli.conftest import Cli, cli, folder
from tests.fuzz.effort import examples

__all__ = ["cli", "folder"]

# What a shell can pass: no NUL, and whatever else its user types.
words = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8),
    st.sampled_from(
        ["", ".", "..", "/", "~", "-", "--", "a" * 300, "a/" * 3000, "9" * 5000, "-1", "0", "1e999", "nan",
         "inf", "\udcff", "copying.py", "copying.py:flow", "copying.py:", ":flow", "copying:flow", "a.b.c:d",
         "copying:flow.name", "os:path", "copying.py:numbers", "copying.py/x", "/dev/null", "x.py", "a\nb"]
    ),
)  # fmt: skip
OPTIONS = {
    "worker": [
        *("--engines", "--guarantee", "--commit-interval", "--shutdown-timeout"),
        *("--log-level", "--log-format", "--app-dir", "--drop-edge", "--standbys"),
        *("--http", "--http-advertise", "--bootstrap"),
    ],
    "describe": ["--format", "--app-dir"],
    "topics": ["--app-dir", "--data-dir", "--bootstrap"],
    "produce": ["--key", "--data-dir", "--create", "--bootstrap"],
    "consume": ["--max-events", "--data-dir", "--bootstrap"],
    # And a target, which it does not take: it never gets as far as Kafka.
    "dev-broker": ["--port", "--data-dir"],
}
SECURITY = ["--kafka-config", "--security-protocol", "--ssl-ca-location", "--ssl-certificate-location",
            "--ssl-key-location", "--ssl-key-password-file", "--sasl-mechanism", "--sasl-username",
            "--sasl-password-file", "--sasl-token-file", "--sasl-kerberos-service-name"]  # fmt: skip


addresses = words.filter(lambda w: not re.search(r":\s*\d", w)) | st.sampled_from(
    ["a:0", "a:99999", "a:b:c", ":::", ",,:", ":9092", "[::1]:x", "a:-1", "a:1e3", "a:²", " : ", "a\nb:0"]
)
"""What may be given for addresses; none at which one would have to wait for somebody to answer."""


def is_told(result: Any) -> bool:
    """One sentence, and an exit code that says whose fault it is."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return result.exit_code in (1, 2, 3, 4) and len(lines) == 1 and "Traceback" not in result.stderr


def check(result: Any, *args: str) -> None:
    told = f"{args}: {result.exit_code} {result.stderr[-2000:]} {result.exception!r}"
    assert result.exit_code == 0 or is_told(result), told


@pytest.mark.parametrize("command", sorted(OPTIONS))
@examples(12)
@given(data=st.data())
def test_any_values(command: str, cli: Cli, data: st.DataObject) -> None:
    """Nothing that runs for long: a worker gets no target that there is."""
    target = data.draw(words.filter(lambda w: command != "worker" or not w.startswith("copying")))
    names = data.draw(st.lists(st.sampled_from(OPTIONS[command]), max_size=3))
    given_options = [
        (name, data.draw(addresses if name in ("--bootstrap", "--http", "--http-advertise") else words))
        for name in names
    ]
    args = [command, *[word for pair in given_options for word in pair]]
    result = cli(*args, "--", target, input=b'{"n":1}\n')
    check(result, *args, target)


@examples(12)
@example(http="0", advertise="a b:1")
@example(http="[::1]:0", advertise="[::1]:0")
@example(http="a\nb:0", advertise=None)
@given(http=words | addresses | st.sampled_from(["0", "127.0.0.1:0"]), advertise=st.none() | addresses)
def test_addresses_to_answer_at(cli: Cli, http: str, advertise: str | None) -> None:
    """A run that ends at once either answered queries meanwhile, or says what is wrong with the address."""
    cli("produce", "numbers", "--create", "1")
    more = [] if advertise is None else ["--http-advertise", advertise]
    result = cli("worker", "copying.py", "--until-end", "--http", http, *more)
    check(result, http, *more)
    if result.exit_code == 0:
        port = http.rpartition(":")[2]
        assert port.isdecimal(), http
        assert not re.search(r"[\s/?#@]", http + (advertise or "")), (http, advertise)


@examples(25)
@given(topic=words)
def test_names_of_topics(cli: Cli, topic: str) -> None:
    """A topic that Kafka would refuse is refused whatever comes in."""
    result = cli("produce", "--create", "1", "--", topic)
    check(result, topic)
    if result.exit_code == 0:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", topic), topic
        assert cli("consume", "--", topic).exit_code == 0
    else:
        assert "no name of a Kafka topic" in result.stderr


@examples(12)
@given(data=st.data())
def test_any_variables(cli: Cli, data: st.DataObject) -> None:
    names = ["ENGINES", "DATA_DIR", "APP_DIR", "LOG_LEVEL", "BOOTSTRAP", "UNTIL_END", "SASL_PASSWORD",
             "STANDBYS", "HTTP", "HTTP_ADVERTISE", "DROP_EDGE"]  # fmt: skip
    names = [f"REFLOW_{name}" for name in names]
    values = words.filter(lambda w: "\udcff" not in w and ":" not in w)
    env = data.draw(st.dictionaries(st.sampled_from(names), values, max_size=3))
    result = cli("worker", "nothing.py", env=env)
    assert is_told(result), f"{env}: {result.stderr} {result.exception!r}"


@examples(25)
@given(data=st.data())
def test_security(cli: Cli, folder: Path, data: st.DataObject) -> None:
    (folder / "garbage").write_bytes(data.draw(st.binary(max_size=60)))
    properties = st.lists(
        st.tuples(st.sampled_from(["security.protocol", "sasl.mechanism", "ssl.ca.location", "x", ""]), words)
    )
    text = "\n".join(f"{name}={value}" for name, value in data.draw(properties))
    (folder / "properties").write_bytes(text.encode("utf-8", "surrogateescape"))
    values = words | st.sampled_from(
        ["garbage", "properties", "nowhere", ".", *["SSL", "SASL_SSL", "SASL_PLAINTEXT", "PLAIN", "GSSAPI"]]
    )
    given_options = data.draw(
        st.lists(
            st.tuples(st.sampled_from(SECURITY), values), min_size=1, max_size=4, unique_by=lambda o: o[0]
        )
    )
    args = ["topics", "copying.py", *[word for pair in given_options for word in pair]]
    result = cli(*args)  # without an address: it must not get as far as a connection
    assert is_told(result) or given_options[0][0] in ("--ssl-key-password-file", "--sasl-password-file"), (
        f"{args}: {result.stderr} {result.exception!r}"
    )
    check(result, *args)


MODULES = {
    "raises": "raise RuntimeError('a\\nb')",
    "ends": "import sys; sys.exit(3)",
    "syntax": "def (",
    "null": "a = '\0'",
    "bytes": b"# \xff\xfe\nx = 1",
    "deep": "(" * 5000 + ")" * 5000,
    "group": "raise ExceptionGroup('several', [ValueError('one'), OSError('two')])",
    "mute": "class Mute(Exception):\n    def __str__(self): raise self\nraise Mute()",
    "itself": "import sys\ndel sys.modules[__name__]\n1 / 0",
    "circle": "import circle_of\ncircle_of.x",
    "recursion": "def f(): f()\nf()",
    "empty": "",
    "no_flow": "flow = 5",
    "getattr": "class G:\n    def __getattr__(self, name): raise ValueError(name)\nflow = G()",
    "many": "from reflow_kafka import Flow\na = Flow('a')\nb = Flow('b')",
    "useless": "from reflow_kafka import Flow\nflow = Flow('a')",
    "definition": "from reflow_kafka import Flow\nflow = Flow('A B')",
}


@pytest.mark.parametrize("name", sorted(MODULES))
@pytest.mark.parametrize("form", ["{}.py", "{}.py:flow", "{}:flow", "{}:flow.inner.most"])
def test_modules_that_cannot_be_used(name: str, form: str, cli: Cli, folder: Path) -> None:
    source = MODULES[name]
    (folder / f"m_{name}.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    (folder / "circle_of.py").write_text("import m_circle\nm_circle.y\n")
    target = form.format(f"m_{name}")
    result = cli("worker", target)
    assert is_told(result), f"{target}: {result.stderr} {result.exception!r}"
    assert f"m_{name}" in result.stderr


lines = st.one_of(
    st.binary(max_size=20),
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from([10**30, 2**64]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["key", "value", "timestamp", "headers", "base64"]) | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ).map(lambda v: json.dumps(v).encode()),
)


@pytest.mark.parametrize("options", [["--envelope"], ["--key", "key"], []])
@examples(12)
@example(given_lines=[b'{"value":1,"timestamp":1e300}'])
@example(given_lines=[b'{"value":1,"timestamp":' + b"9" * 30 + b"}"])
@example(given_lines=[b'{"value":1,"headers":{"a":{"base64":"%%"}}}', b"[" * 100_000])
@given(given_lines=st.lists(lines, max_size=5))
def test_any_lines(options: list[str], cli: Cli, folder: Path, given_lines: list[bytes]) -> None:
    """Lines that cannot be events are named by their number; what was written comes out again."""
    result = cli("produce", "any", "--create", "1", *options, input=b"\n".join(given_lines))
    check(result, *options)
    if result.exit_code:
        assert "line " in result.stderr
    for options in ([], ["--envelope"]):
        result = cli("consume", "any", *options)
        check(result, *options)
        assert all(_is_json(line) for line in result.stdout_bytes.splitlines())


def _is_json(line: bytes) -> bool:
    orjson.loads(line)
    return True


def test_large_numbers_go_through_unchanged(cli: Cli, folder: Path) -> None:
    """Not as floats, wherever they stand."""
    number = 2**70
    result = cli("produce", "n", "--create", "1", "--envelope", input=b'{"value": {"n": %d}}\n' % number)
    assert result.exit_code == 0, result.stderr
    result = cli("produce", "n", "--key", "n", input=b'{"n": %d, "m": 0.1}\n' % number)
    assert result.exit_code == 0, result.stderr
    out = cli("consume", "n", "--envelope").stdout
    assert out.count(str(number)) == 3, out
    assert f'"key":"{number}"' in out
    assert os.path.exists(folder / ".reflow")
