"""Messages between engine and processes, and the page on which a process shows what it does."""

from __future__ import annotations

import tempfile

from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.processes.wire import Frames, Logged, Progress, Recalled, frame

messages = st.one_of(
    st.lists(st.integers(0, 2**40)).map(Recalled), st.binary(max_size=5000).map(lambda b: Logged({"b": b}))
)


@given(st.lists(messages), st.lists(st.integers(1, 4000), min_size=1))
def test_messages_are_put_together_however_they_arrive(sent: list[object], sizes: list[int]) -> None:
    stream = b"".join(map(frame, sent))
    frames, received, at, turn = Frames(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        received += frames.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert received == sent


def test_progress_is_seen_by_whoever_shares_the_page() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(Progress.SIZE)
        writer, reader = Progress(file.fileno()), Progress(file.fileno())
    assert reader.read() == (0, 0.0, False)
    writer.write(2**40, 12.5, loading=True)
    assert reader.read() == (2**40, 12.5, True)
    writer.write(7, 13.0)
    assert reader.read() == (7, 13.0, False)
    writer.close()
    reader.close()
