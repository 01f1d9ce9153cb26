"""What becomes of an error while a program is asked for what it has stored."""

from __future__ import annotations

from types import TracebackType

from reflow_kafka.errors import DataLoss
from reflow_kafka.state.cache import UNREADABLE
from reflow_kafka.topology.plan import Node


class Stored:
    """``with`` it a program is asked for what runs no code of users: what it cannot read is `DataLoss`."""

    def __init__(self, node: Node, lane: int) -> None:
        self._node = node
        self._lane = lane

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UNREADABLE):
            raise self.lost(error) from error

    def lost(self, error: BaseException) -> DataLoss:
        """What to raise instead of an error that came of it."""
        return DataLoss(
            f"what stage {self._node.name!r} has stored in lane {self._lane} cannot be read "
            f"({str(error) or type(error).__name__}): bring the records back in {self._node.changelog}, or "
            "reset the flow to let the stage begin anew"
        )
