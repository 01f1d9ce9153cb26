"""Aggregations that are approximate, and small however many values there were: with Apache DataSketches.

They need the extra ``reflow-kafka[sketches]``. A state is the sketch as the library writes it, as text with a
character for each byte (which is read and made twenty times faster than Base64); the same values in the same
order give the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reflow_kafka.aggregations import Aggregated, number
from reflow_kafka.definition.place import Place, callers_place
from reflow_kafka.serde.keys import KeyOf, decode_key, encode_key

try:
    import datasketches
except ImportError:
    datasketches = None


class ApproxDistinct(Aggregated):
    """About how many different values there were: with `precision` p it is off by 1.04 / 2**(p/2), by 1.6 %
    unless told otherwise (one standard deviation), and takes up to about 2**p bytes. Up to some dozens of
    values it is exact.

    Raises:
        DefinitionError: a precision that is no whole number from 7 to 21; the library is missing.
    """

    def __init__(self, of: KeyOf | None = None, *, precision: int = 12) -> None:
        place = callers_place()
        _need_library("ApproxDistinct", place)
        if type(precision) is not int or not 7 <= precision <= 21:
            place.fail(f"ApproxDistinct(precision={precision!r}): precision is a whole number from 7 to 21")
        self._take(of, place)
        self._precision = precision

    def make(self) -> Any:
        return ""

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is None:
            return state
        sketch = self._sketch(state)
        # Text as it is, anything else as the key that it would be: 1 and "1" are two.
        sketch.update(found if type(found) is str else "\0" + decode_key(encode_key(found) or b""))
        return _text(sketch.serialize_compact())

    def merge(self, state: Any, later: Any) -> Any:
        both = datasketches.hll_union(self._precision)
        both.update(self._sketch(state))
        both.update(self._sketch(later))
        return _text(both.get_result().serialize_compact())

    def result(self, state: Any) -> Any:
        return round(self._sketch(state).get_estimate())

    def _sketch(self, state: str) -> Any:
        if state:
            return datasketches.hll_sketch.deserialize(_bytes(state))
        return datasketches.hll_sketch(self._precision, datasketches.tgt_hll_type.HLL_4)


class Quantiles(Aggregated):
    """About which numbers have so many others below them: ``Quantiles("ms", [0.5, 0.99])`` gives the median
    and what all but 1 % stay below, as ``{"0.5": …, "0.99": …}``; None of nothing.

    The rank of what is given is off by about 200 / `size` % in the middle, less towards the ends; a state
    takes up to about 40 bytes times `size`.

    Raises:
        DefinitionError: no ranks from 0 to 1; a size that is no whole number from 10 to 5,000; the library is
            missing.
    """

    def __init__(self, of: KeyOf | None, ranks: Iterable[float], *, size: int = 200) -> None:
        place = callers_place()
        _need_library("Quantiles", place)
        self._ranks = _ranks(ranks, place)
        if type(size) is not int or not 10 <= size <= 5_000:
            place.fail(f"Quantiles(size={size!r}): size is a whole number from 10 to 5,000")
        self._take(of, place)
        self._size = size

    def make(self) -> Any:
        return ""

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is None:
            return state
        sketch = self._sketch(state)
        sketch.update(float(number(found)))
        return _text(sketch.serialize())

    def merge(self, state: Any, later: Any) -> Any:
        sketch = self._sketch(state)
        sketch.merge(self._sketch(later))
        return _text(sketch.serialize())

    def result(self, state: Any) -> Any:
        sketch = self._sketch(state)
        empty = sketch.is_empty()
        return {str(rank): None if empty else sketch.get_quantile(rank) for rank in self._ranks}

    def _sketch(self, state: str) -> Any:
        if state:
            return datasketches.tdigest_double.deserialize(_bytes(state))
        return datasketches.tdigest_double(self._size)


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(state: str) -> bytes:
    return state.encode("latin-1")


def _ranks(given: Any, place: Place) -> tuple[float, ...]:
    try:
        ranks = tuple(given)
    except TypeError:
        ranks = ()
    if not ranks or not all(type(r) in (int, float) and 0 <= r <= 1 for r in ranks):
        place.fail(f"Quantiles(ranks={given!r:.100}): ranks are numbers from 0 to 1, such as [0.5, 0.99]")
    return ranks


def _need_library(kind: str, place: Place) -> None:
    if datasketches is None:
        place.fail(f"{kind} needs the library datasketches: pip install 'reflow-kafka[sketches]'")
