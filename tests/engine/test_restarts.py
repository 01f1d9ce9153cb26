"""What a supervisor does about an engine that ended, as a table."""

from __future__ import annotations

import pytest

from reflow_kafka.engine.restarts import (
    FIRST_DELAY,
    HEALTHY_AFTER,
    MAX_DELAY,
    Await,
    Decision,
    Exit,
    Finished,
    Policy,
    Restart,
    StopAll,
    decide,
)

FOREVER, FINITE, RELOAD = Policy(), Policy(until_end=True), Policy(reload=True)


@pytest.mark.parametrize(
    ("ended", "policy", "wanted"),
    [
        # done
        (Exit(0, ran=5), FINITE, Finished()),
        (Exit(0, ran=5), FOREVER, Restart(FIRST_DELAY, crashes=0)),
        (Exit(0, ran=5, crashes=4), FOREVER, Restart(FIRST_DELAY, crashes=0)),
        # crashed: half a second, then twice as long each time
        (Exit(1, ran=5), FOREVER, Restart(0.5, crashes=1)),
        (Exit(1, ran=5, crashes=1), FOREVER, Restart(1.0, crashes=2)),
        (Exit(1, ran=5, crashes=5), FINITE, Restart(16.0, crashes=6)),
        (Exit(1, ran=5, crashes=6), FOREVER, Restart(MAX_DELAY, crashes=7)),
        (Exit(1, ran=5, crashes=100_000), FOREVER, Restart(MAX_DELAY, crashes=100_001)),
        (Exit(-9, ran=5, crashes=1), FOREVER, Restart(1.0, crashes=2)),
        # a minute of health is a new beginning
        (Exit(1, ran=HEALTHY_AFTER, crashes=6), FOREVER, Restart(0.5, crashes=1)),
        (Exit(-11, ran=HEALTHY_AFTER - 1, crashes=6), FOREVER, Restart(MAX_DELAY, crashes=7)),
        # what no restart changes
        (Exit(2, ran=0), FOREVER, StopAll(2)),
        (Exit(4, ran=0), FINITE, StopAll(4)),
        (Exit(4, ran=1000, crashes=3), FOREVER, StopAll(4)),
        # ... but a change of the code may
        (Exit(2, ran=0), RELOAD, Await()),
        (Exit(4, ran=0), RELOAD, Await()),
        (Exit(1, ran=0), RELOAD, Restart(0.5, crashes=1)),
        # an address that never answered is wrong, one that did is down
        (Exit(3, ran=15, first=True), FOREVER, StopAll(3)),
        (Exit(3, ran=15), FOREVER, Restart(0.5, crashes=1)),
        (Exit(3, ran=15, crashes=2), FINITE, Restart(2.0, crashes=3)),
    ],
)
def test_decision(ended: Exit, policy: Policy, wanted: Decision) -> None:
    assert decide(ended, policy) == wanted
