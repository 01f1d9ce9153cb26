"""Numbers whose minimum, maximum, sum and count per window are known beforehand, and what must come of them.

A key ``lo-hi`` gets each number from lo to hi once in every window, in any order. So its sum is
(lo + hi) · n / 2, as in the system tests of Kafka Streams.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.kafka import Input, Output
from tests.support.kills import Seen

SIZE = 10_000
"""Milliseconds of a window."""
DISORDER = 2_000
"""Milliseconds by which events come late at most, but for the very last moment."""
LATE = ("smallest", "largest", "total", "number", "so_far", "difference", "mean")
"""Stages that tell what was late."""
BEGIN = 1_700_000_000_000 // SIZE * SIZE


class Smoke:
    """The oracle."""

    source = "-data"
    sinks = (
        *("-echo", "-smallest", "-largest", "-total", "-number", "-so_far", "-difference", "-mean"),
        *("-counts", *(f"-late-{name}" for name in LATE)),
    )

    def __init__(self, keys: int, windows: int, chance: random.Random) -> None:
        self._spans = [(low := chance.randrange(100), low + chance.randrange(1, 30)) for _ in range(keys)]
        self._windows = [BEGIN + number * SIZE for number in range(windows)]
        rows = [row for start in self._windows for row in self._of_window(start, chance)]
        # Each comes as late as it may: those of two windows mix.
        order = sorted(rows, key=lambda row: row["time"] + chance.randrange(DISORDER))
        self._rows = order
        self.events: Sequence[Input] = [Input(row["key"], row, BEGIN) for row in order]

    def _of_window(self, start: int, chance: random.Random) -> Iterator[dict[str, Any]]:
        for low, high in set(self._spans):
            for n in range(low, high + 1):
                yield {"key": f"{low}-{high}", "n": n, "time": start + chance.randrange(SIZE)}

    def check(self, seen: Seen) -> None:
        """All results of all windows are there once, and nothing was late."""
        spans = [(f"{low}-{high}", low, high, high - low + 1) for low, high in sorted(set(self._spans))]
        results = {
            "smallest": {key: low for key, low, _, _ in spans},
            "largest": {key: high for key, _, high, _ in spans},
            "total": {key: (low + high) * n // 2 for key, low, high, n in spans},
            "number": {key: n for key, _, _, n in spans},
            "difference": {key: high - low for key, low, high, _ in spans},
            "mean": {key: (low + high) / 2 for key, low, high, _ in spans},
        }
        for name, wanted in results.items():
            _same(
                name,
                _windows(seen(f"-{name}", len(spans) * len(self._windows))),
                {(key, start): [value] for key, value in wanted.items() for start in self._windows},
            )
        for name in LATE:
            assert not seen(f"-late-{name}", 0), f"late in {name}"
        echoes = seen("-echo", len(self._rows))
        assert _sorted(e.value for e in echoes) == _sorted(self._rows)
        self._check_updates(seen("-so_far", len(self._rows)))
        self._check_counts(seen("-counts", len(spans) * len(self._windows)), [n for *_, n in spans])

    def _check_updates(self, found: Sequence[Output]) -> None:
        """Each update of a window adds one of its numbers, in the order of the input."""
        sums: dict[tuple[str, int], list[int]] = defaultdict(list)
        for row in self._rows:
            place = (row["key"], row["time"] // SIZE * SIZE)
            sums[place].append((sums[place][-1] if sums[place] else 0) + row["n"])
        _same("so_far", _windows(found), sums)

    def _check_counts(self, found: Sequence[Output], numbers: Sequence[int]) -> None:
        wanted = Counter(numbers)
        by_number: dict[str, list[int]] = defaultdict(list)
        for output in found:
            by_number[output.value["key"]].append(output.value["is"])
        assert by_number == {
            str(n): list(range(1, times * len(self._windows) + 1)) for n, times in wanted.items()
        }


def _same(name: str, found: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    """Compare results by key and window, and show the first few that differ."""
    wrong = [
        (place, found.get(place), wanted.get(place))
        for place in sorted({*found, *wanted})
        if found.get(place) != wanted.get(place)
    ]
    assert not wrong, f"{name}: {len(wrong)} of {len(wanted)} differ (place, found, wanted): {wrong[:5]}"


def _windows(found: Sequence[Output]) -> dict[tuple[str, int], list[Any]]:
    """The values of each key and window, in the order in which they came."""
    windows: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for output in found:
        windows[output.value["key"], output.value["window"]].append(output.value["is"])
    return windows


def _sorted(rows: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(sorted(row.items())) for row in rows)
