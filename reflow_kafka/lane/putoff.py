"""What has failed when its time had come, and is to be tried again (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PUT_OFF: Final = 1_000
"""Failed windows and timers that may wait for another try before others are begun."""


@dataclass(frozen=True, slots=True)
class _Failed:
    at: int
    again: float
    tries: int


class PutOff:
    """By the ids of what was due."""

    def __init__(self) -> None:
        self._failed: dict[bytes, _Failed] = {}

    def __len__(self) -> int:
        """How many wait for another try."""
        return len(self._failed)

    def put(self, id: bytes, at: int, again: float, tries: int) -> None:
        """It was due at `at` (epoch ms), has failed so often, and is tried again at the time `again`."""
        self._failed[id] = _Failed(at, again, tries)

    def tries(self, id: bytes) -> int:
        """How often it has failed."""
        return self._failed[id].tries if id in self._failed else 0

    def done(self, id: bytes) -> None:
        """It waits no longer."""
        self._failed.pop(id, None)

    def forget(self, now: float) -> None:
        """Nothing is due by now: what was to be tried again is gone, or waits until it is due once more."""
        self._failed = {id: failed for id, failed in self._failed.items() if failed.again > now}

    def clear(self) -> None:
        """Nothing waits any longer."""
        self._failed.clear()

    def later(self, now: float) -> frozenset[bytes]:
        """Those whose next try has not come yet."""
        return frozenset(id for id, failed in self._failed.items() if failed.again > now)

    def next_try(self) -> float | None:
        """When the first of them is tried again."""
        return min((failed.again for failed in self._failed.values()), default=None)

    def oldest(self) -> int | None:
        """When the first of them was due."""
        return min((failed.at for failed in self._failed.values()), default=None)
