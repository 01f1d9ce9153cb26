"""What is ripe on a shelf is handed out once, whoever asks in between."""

from __future__ import annotations

import pytest

from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.ordered import number
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.closing import Closing

NOW = frozenset[bytes]()


@pytest.fixture
def shelf() -> Shelf[int]:
    stores: LaneStores = MemoryBackend().open("f", 0, ["s"])
    return Shelf(stores, "s", b"x", lambda n: b"%d" % n, int)


def put(shelf: Shelf[int], closing: Closing, *times: int) -> None:
    for time in times:
        closing.put(number(time))
        shelf.put(number(time), 1)
    shelf.encode()
    shelf.accept()


def test_who_asks_for_the_oldest_in_the_middle_of_a_step_changes_nothing(shelf: Shelf[int]) -> None:
    closing = Closing(shelf)
    put(shelf, closing, 5, 7)
    assert closing.ripe(6, NOW) == [number(5)]
    assert closing.oldest() == 5  # a commit, while the code that is told of it waits
    shelf.delete(number(5))
    assert closing.oldest() == 5
    shelf.encode()
    shelf.accept()
    assert closing.oldest() == 7  # a commit that comes before it is looked again for what is due
    assert closing.ripe(6, NOW) == []
    assert closing.oldest() == 7


def test_what_has_failed_is_handed_out_again(shelf: Shelf[int]) -> None:
    closing = Closing(shelf)
    put(shelf, closing, 5)
    assert closing.ripe(6, NOW) == [number(5)]
    shelf.drop()
    assert closing.oldest() == 5
    assert closing.ripe(6, frozenset([number(5)])) == []
    assert closing.ripe(6, NOW) == [number(5)]
