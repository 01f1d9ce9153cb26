"""What programs have in common to which time brings nothing that is emitted (pure)."""

from __future__ import annotations

from reflow_kafka.timed.program import Due


class Timeless:
    """Nothing is ever due, and what is emitted is never older than the event that it comes from.

    One that forgets in time says when: what is due then emits nothing.
    """

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """Nothing."""
        return None

    def wake(self, now: int) -> int | None:
        """Never."""
        return None

    def tell(self, id: bytes) -> str:
        """What it is."""
        return "what is to be forgotten"

    def give_up(self, id: bytes) -> tuple[bytes | None, object]:
        """Not asked: nothing is due."""
        raise LookupError(f"nothing is due under {id!r}")

    def holds(self, watermark: int) -> int:
        """Nothing is held back."""
        return watermark

    def pending(self) -> bool:
        """Nothing is."""
        return False

    def rewound(self) -> None:
        """Nothing is known besides the shelves."""
