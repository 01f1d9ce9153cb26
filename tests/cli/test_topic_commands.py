"""`topics`, `produce` and `consume`, on either log."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reflow_kafka.serde.keys import partition_of
from tests.cli.conftest import Cli, Command


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    """The options that choose the log."""
    if request.param == "embedded":
        return ["--data-dir", str(folder / "data")]
    return ["--bootstrap", request.getfixturevalue("kafka_bootstrap")]


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def read(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_what_is_written_is_read(cli: Cli, log: list[str], unique: str) -> None:
    values = [{"n": n, "city": "Zürich"} for n in range(10)]
    result = cli("produce", unique, *log, "--create", "3", input=lines(*values))
    assert (result.exit_code, result.stderr) == (0, f"10 events written to {unique}\n")
    result = cli("consume", unique, *log)
    assert result.exit_code == 0
    assert sorted(read(result.stdout), key=lambda value: value["n"]) == values
    partitions = {line["partition"] for line in read(cli("consume", unique, *log, "--envelope").stdout)}
    assert partitions == {0, 1, 2}


def test_a_key_decides_the_partition(cli: Cli, log: list[str], unique: str) -> None:
    values = [{"city": city, "n": n} for n in range(4) for city in ("Basel", "Bern", "Zürich", "Genève")]
    assert cli("produce", unique, *log, "--create", "3", "--key", "city", input=lines(*values)).exit_code == 0
    seen: dict[str, list[int]] = {}
    for line in read(cli("consume", unique, *log, "--envelope").stdout):
        assert line["key"] == line["value"]["city"]
        assert line["partition"] == partition_of(line["key"].encode(), 3)
        seen.setdefault(line["key"], []).append(line["value"]["n"])
    assert seen == {city: [0, 1, 2, 3] for city in ("Basel", "Bern", "Zürich", "Genève")}


def test_an_envelope_goes_there_and_back(cli: Cli, log: list[str], unique: str) -> None:
    envelopes = [
        {"key": "a", "value": {"n": 1}, "timestamp": 1_262_304_000_000, "headers": {"trace": "x"}},
        {"key": "b", "value": None, "timestamp": 1_262_304_000_001, "headers": {}},
        {"key": {"base64": "/wA="}, "value": [1], "timestamp": 0, "headers": {"raw": {"base64": "/w=="}}},
        {"key": None, "value": "text", "timestamp": 5, "headers": {}},
    ]
    assert cli("produce", unique, *log, "--create", "1", "--envelope", input=lines(*envelopes)).exit_code == 0
    once = cli("consume", unique, *log, "--envelope").stdout
    assert read(once) == [{**e, "partition": 0, "offset": n} for n, e in enumerate(envelopes)]
    # What `consume` writes, `produce` takes.
    copy = f"{unique}-copy"
    assert cli("produce", copy, *log, "--create", "1", "--envelope", input=once).exit_code == 0
    assert cli("consume", copy, *log, "--envelope").stdout == once


def test_an_envelope_needs_a_value_only(cli: Cli, log: list[str], unique: str) -> None:
    text = lines({"value": 1}, {"value": 2, "timestamp": "2010-01-01T00:00:00"})
    assert cli("produce", unique, *log, "--create", "1", "--envelope", input=text).exit_code == 0
    first, second = read(cli("consume", unique, *log, "--envelope").stdout)
    assert first["timestamp"] > 1_700_000_000_000
    assert second["timestamp"] == 1_262_304_000_000


def test_values_that_are_no_json_are_shown(cli: Cli, log: list[str], unique: str) -> None:
    text = '{"value": {"pretty":\t1}}\n'
    assert cli("produce", unique, *log, "--create", "1", "--envelope", input=text).exit_code == 0
    assert cli("consume", unique, *log).stdout == '{"pretty":1}\n'


def test_reading_part_of_a_topic(cli: Cli, log: list[str], unique: str) -> None:
    assert cli("produce", unique, *log, "--create", "2", input=lines(*range(5000))).exit_code == 0
    assert len(read(cli("consume", unique, *log, "--max-events", "7").stdout)) == 7
    assert len(read(cli("consume", unique, *log, "--max-events", "4999").stdout)) == 4999
    assert sorted(read(cli("consume", unique, *log).stdout)) == list(range(5000))
    followed = cli("consume", unique, *log, "--follow", "--max-events", "5000")
    assert sorted(read(followed.stdout)) == list(range(5000))


def test_a_topic_without_events(cli: Cli, log: list[str], unique: str) -> None:
    assert (
        cli("produce", unique, *log, "--create", "2", input="\n \n").stderr
        == f"0 events written to {unique}\n"
    )
    result = cli("consume", unique, *log)
    assert (result.exit_code, result.stdout) == (0, "")


def test_nothing_is_created_unasked(cli: Cli, log: list[str], unique: str) -> None:
    for _ in range(2):
        result = cli("produce", unique, *log, input="1\n")
        assert result.exit_code == 2
        assert result.stderr == f"error: there is no topic '{unique}': --create PARTITIONS makes it\n"
    assert cli("consume", unique, *log).stderr == f"error: there is no topic '{unique}'\n"


def test_create_leaves_an_existing_topic(cli: Cli, log: list[str], unique: str) -> None:
    assert cli("produce", unique, *log, "--create", "1", input="1\n").exit_code == 0
    assert cli("produce", unique, *log, "--create", "4", input="2\n").exit_code == 0
    assert read(cli("consume", unique, *log).stdout) == [1, 2]


@pytest.mark.parametrize(
    ("options", "line", "wanted"),
    [
        ([], "{", "line 3: "),
        ([], "NaN", "line 3: "),
        (["--key", "id"], '{"n": 1}', "line 3: the key is missing: found fields n, wanted id"),
        (["--key", "id"], "[1]", "line 3: the key is missing: found list, wanted id"),
        (["--envelope"], '{"n": 1}', 'line 3: found no envelope, wanted an object with a "value"'),
        (["--envelope"], "1", "line 3: found no envelope"),
        (["--envelope"], '{"value": 1, "timestamp": "soon"}', "line 3: found 'soon' as timestamp"),
        (["--envelope"], '{"value": 1, "headers": [1]}', "line 3: found [1] as headers"),
        (["--envelope"], '{"value": 1, "key": {"base64": "?"}}', "line 3: found '?', wanted base64"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    cli: Cli, folder: Path, options: list[str], line: str, wanted: str
) -> None:
    good = '{"value": 1, "id": 2}'
    text = f"{good}\n\n{line}\n{good}\n"
    result = cli("produce", "t", "--data-dir", "data", "--create", "1", *options, input=text)
    assert result.exit_code == 2
    assert wanted in result.stderr
    assert result.stderr.endswith("1 event before it written\n")
    assert len(read(cli("consume", "t", "--data-dir", "data").stdout)) == 1


def test_a_file_instead_of_standard_input(cli: Cli, folder: Path) -> None:
    (folder / "values.jsonl").write_text('{"n": 1}\n{"n": 2}')  # the last line without its end
    assert cli("produce", "t", "values.jsonl", "--data-dir", "data", "--create", "1").exit_code == 0
    assert read(cli("consume", "t", "--data-dir", "data").stdout) == [{"n": 1}, {"n": 2}]


def test_lines_longer_than_a_chunk(cli: Cli, folder: Path) -> None:
    values = ["x" * 700_000, "y" * 700_000, "z" * 700_000]
    assert cli("produce", "t", "--data-dir", "data", "--create", "1", input=lines(*values)).exit_code == 0
    assert read(cli("consume", "t", "--data-dir", "data").stdout) == values


def test_bytes_that_are_no_text(cli: Cli, folder: Path) -> None:
    (folder / "packed").write_bytes(gzip.compress(b"{}"))
    result = cli("produce", "t", "packed", "--data-dir", "data", "--create", "1")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: line 1: ")


def test_a_reader_that_leaves_early_is_no_error(command: Command, folder: Path) -> None:
    text = lines(*range(100_000))
    assert command("produce", "t", "--create", "1", input=text).returncode == 0
    piped = command_line("consume t | head -2", folder)
    assert piped == "0\n1\n"


def command_line(text: str, folder: Path) -> str:
    run = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m reflow_kafka {text}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return run.stdout


def test_topics_are_created_once(cli: Cli, log: list[str], folder: Path, unique: str) -> None:
    source = (folder / "copying.py").read_text()
    renamed = source.replace('Flow("copy"', f'Flow("{unique}"').replace('topic="', f'topic="{unique}-')
    (folder / "copying.py").write_text(renamed)
    result = cli("topics", "copying.py", *log, "--json")
    assert result.exit_code == 0
    rows = {row.pop("topic"): row for row in read(result.stdout)}
    assert set(rows) >= {
        f"{unique}.progress",
        f"{unique}.dead-letters",
        f"{unique}-numbers",
        f"{unique}-doubles",
    }
    assert all(row["created"] and row["flow"] == unique and row["partitions"] == 2 for row in rows.values())
    again = cli("topics", "copying.py", *log)
    assert again.exit_code == 0
    assert len(again.stdout.splitlines()) == len(rows) + 1
    assert not any(line.endswith(" created") for line in again.stdout.splitlines())


def test_topics_that_do_not_fit_are_refused(cli: Cli, log: list[str], folder: Path, unique: str) -> None:
    source = (folder / "copying.py").read_text().replace('Flow("copy"', f'Flow("{unique}"')
    source = source.replace('topic="', f'topic="{unique}-')
    (folder / "copying.py").write_text(source)
    assert cli("topics", "copying.py", *log).exit_code == 0
    (folder / "copied.py").write_text(source.replace("partitions=2", "partitions=3"))
    result = cli("topics", "copied.py", *log)
    assert result.exit_code == 4
    assert result.stderr.startswith("error: topic ")
    assert "2" in result.stderr
    assert "3" in result.stderr
