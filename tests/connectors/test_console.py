"""The print sink."""

from __future__ import annotations

import io

import pytest

from reflow_connectors.console import PrintSink
from reflow_kafka.event import Event

from .contract import context


async def test_json_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    writer = await PrintSink().open(context())
    await writer.write([Event({"a": 1}), Event("x"), Event(None)])
    await writer.flush()
    await writer.close()
    await writer.close()
    assert capsys.readouterr().out == '{"a":1}\n"x"\nnull\n'


async def test_whole_events_to_a_stream() -> None:
    stream = io.StringIO()
    writer = await PrintSink(format="repr", stream=stream).open(context())
    await writer.write([Event({"a": 1}, key="k", timestamp=5)])
    await writer.flush()
    assert stream.getvalue() == "Event({'a': 1}, key='k', timestamp=5)\n"


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="wanted"):
        PrintSink(format="xml")  # type: ignore[arg-type]
