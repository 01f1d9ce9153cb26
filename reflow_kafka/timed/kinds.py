"""Which program makes which kind of windows."""

from __future__ import annotations

from reflow_kafka.timed.counted import CountWindows
from reflow_kafka.timed.sessions import SessionWindows
from reflow_kafka.timed.sliding import SlidingWindows
from reflow_kafka.timed.windowed import Stock, TimeWindows, TumblingWindows, Windowed
from reflow_kafka.windows import Count, Hopping, Session, Sliding, Tumbling, WindowSpec


def windows_program(stock: Stock, kind: WindowSpec) -> Windowed:
    """The program of a stage with windows of this kind."""
    match kind:
        case Tumbling():
            return TumblingWindows(stock, kind)
        case Hopping():
            return TimeWindows(stock, kind)
        case Session():
            return SessionWindows(stock, kind)
        case Count():
            return CountWindows(stock, kind)
        case Sliding():
            return SlidingWindows(stock, kind)
