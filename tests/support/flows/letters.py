"""Three stages, re-keyed twice: lines are split, words counted, counts totalled per first letter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from reflow_kafka import Event, Flow, State

NAME = os.environ["FLOW_NAME"]

flow = Flow(NAME, partitions=8)
lines = flow.source("lines", topic=f"{NAME}-lines")


@flow.stage(after=lines)
def split(line: dict[str, Any]) -> Iterator[Event[dict[str, Any]]]:
    for word in line["text"].split():
        yield Event({"word": word}, key=word)


def first_letter(counted: dict[str, Any]) -> str:
    return str(counted["word"])[0]


@flow.stage(after=split, key="word", state=lambda: 0)
def count(seen: State[int], word: dict[str, Any]) -> dict[str, Any]:
    seen.value += 1
    return {"word": word["word"], "count": seen.value}


@flow.stage(after=count, key=first_letter, state=dict)
def total(words: dict[str, int], counted: dict[str, Any]) -> dict[str, Any]:
    words[counted["word"]] = counted["count"]
    return {"letter": counted["word"][0], "total": sum(words.values())}


flow.sink("totals", after=total, topic=f"{NAME}-totals")
