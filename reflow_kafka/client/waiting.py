"""The requests of a client that wait for their answers."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reflow_kafka.log.api import Record
from reflow_kafka.topology.replies import CORRELATION_ID, header

Answer = asyncio.Future[Record]


class Waiting:
    """Correlation ids, and who waits for an answer with one. The first answer counts."""

    def __init__(self) -> None:
        self._client = uuid.uuid4().hex  # other clients' answers come to the same partition
        self._numbers = itertools.count()
        self._answers: dict[bytes, Answer] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._answers)

    @contextmanager
    def request(self) -> Iterator[tuple[bytes, Answer]]:
        """A new id, and the answer to come, for as long as somebody waits for it."""
        id = f"{self._client}-{next(self._numbers)}".encode()
        answer = self._answers[id] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        try:
            yield id, answer
        finally:
            self._answers.pop(id, None)
            answer.cancel()

    def answered(self, record: Record) -> bool:
        """Pass an answer on; False if nobody waits for it: another client's, late, or the second one."""
        id = header(record.headers, CORRELATION_ID)
        answer = None if id is None else self._answers.pop(id, None)
        if answer is None or answer.done():
            return False
        answer.set_result(record)
        return True

    def fail(self, error: Callable[[], Exception]) -> None:
        """Tell all who wait that no answer will come."""
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(error())


def _seen(answer: Answer) -> None:
    """Whoever waited may have left: then what went wrong is nobody's."""
    if not answer.cancelled():
        answer.exception()
