"""Whether and when a failed event is tried again, as its stage says; and telling of it, but not too often."""

from __future__ import annotations

import logging
import random
from typing import Final

from reflow_kafka.clock import monotonic
from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.work import Tally
from reflow_kafka.options import Retry

TOLD_RETRIES: Final = 3
"""Failed tries that are logged at once; after that one in `TOLD_EVERY` seconds."""
TOLD_EVERY: Final = 10.0


class Retries:
    """The `retry` of one stage in one worker."""

    def __init__(self, retry: Retry, tally: Tally, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._retry = retry
        self._tally = tally
        self._log = log
        self._told = float("-inf")

    def pause(self, what: object, error: Exception, tries: int, waiting: int) -> float | None:
        """Seconds until something that has failed so often is tried again; None: not at all.

        `what` says what it is called, `waiting` how many others of the worker wait for a retry.
        """
        if not self._retry.again(error, tries):
            return None
        delay = error.delay if isinstance(error, RetryLater) else self._retry.delay(tries, random.random())
        self._tally.retries += 1
        now = monotonic()
        if self._tally.retries <= TOLD_RETRIES or now - self._told > TOLD_EVERY:
            self._told = now
            self._log.warning(
                "%s failed (%s: %s), try %d; again in %.1f s, until then only its key waits "
                "(%d events wait for a retry)",
                what, type(error).__name__, error, tries, delay, waiting + 1,
            )  # fmt: skip
        return delay
