"""States as code takes them: objects and boxes, new, stored, cleared."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from reflow_kafka.serde.typed import state_codec
from reflow_kafka.timed.program import Call
from reflow_kafka.timed.states import States
from reflow_kafka.value import State


class Total(msgspec.Struct):
    sum: int = 0


def states(factory: Any, kind: Any, *, boxed: bool) -> States:
    codec = state_codec(kind)
    return States(factory, boxed=boxed, encode=codec.encode, decode=codec.decode)


OBJECTS = states(Total, Total, boxed=False)
BOXES = states(int, int, boxed=True)
CALL = Call((), b"key", 0)


def test_an_object_is_stored_as_it_is() -> None:
    state = OBJECTS.new()
    state.sum = 3
    assert OBJECTS.decode(OBJECTS.encode(state)) == Total(3)
    assert OBJECTS.value(state) is state
    assert OBJECTS.holding(state) is state


def test_of_a_box_its_value_is_stored() -> None:
    state = BOXES.new()
    assert state.value == 0
    state.value = 3
    assert BOXES.encode(state) == b"3"
    assert BOXES.decode(b"3").value == 3
    assert BOXES.value(state) == 3
    assert BOXES.holding(4).value == 4


def test_code_may_ask_to_forget_a_state() -> None:
    cleared = Call((), b"key", 0, cleared=True)
    assert not OBJECTS.is_cleared(Total(), CALL)
    assert OBJECTS.is_cleared(Total(), cleared)
    assert not BOXES.is_cleared(State(0), CALL)
    assert BOXES.is_cleared(State(0), cleared)
    box = BOXES.new()
    box.clear()
    assert BOXES.is_cleared(box, CALL)


@pytest.mark.parametrize("kind", [OBJECTS, BOXES], ids=["objects", "boxes"])
def test_bytes_that_are_no_state_are_told(kind: States) -> None:
    with pytest.raises(ValueError, match="was expected"):
        kind.decode(b"{")
