"""Count words: lines are split, the words re-keyed, so that each is counted in one place.

reflow-kafka worker examples/word_count.py:flow --until-end            on the embedded log
reflow-kafka consume word-counts
reflow-kafka worker examples/word_count.py:flow --bootstrap broker:9092 --until-end
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reflow_kafka import Flow, State

TEXT = """\
Four score and seven years ago our fathers brought forth on this continent,
a new nation, conceived in Liberty, and dedicated to the proposition that
all men are created equal.
Now we are engaged in a great civil war, testing whether that nation, or any
nation so conceived and so dedicated, can long endure. We are met on a great
battle-field of that war. We have come to dedicate a portion of that field,
as a final resting place for those who here gave their lives that that nation
might live. It is altogether fitting and proper that we should do this.
"""

flow = Flow("word-count", partitions=4)


@dataclass
class Place:
    line: int = 0


@flow.source(state=Place)
def lines(place: Place) -> Iterator[str]:
    """After a restart it goes on at `place`, which is therefore set before the line leaves."""
    text = TEXT.splitlines()
    while place.line < len(text):
        place.line += 1
        yield text[place.line - 1]


@flow.stage(after=lines)
def words(line: str) -> Iterator[str]:
    yield from re.findall(r"[a-z]+", line.lower())


@flow.stage(after=words, key=lambda word: word, state=int)
def count(total: State[int], word: str) -> dict[str, Any]:
    total.value += 1
    return {"word": word, "count": total.value}


flow.sink("counts", after=count, topic="word-counts")
