"""What a supervisor does when an engine process ends. Pure rules: no process, no clock."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
HEALTHY_AFTER = 60.0
"""Seconds of running after which a process counts as healthy: earlier crashes are forgotten."""

NO_BROKER = 3
HOPELESS = (2, 4)
"""Exit codes that the next start would give again: wrong usage or import, invalid flow."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one engine process."""

    code: int
    """Its exit code; negative: the signal that killed it."""
    ran: float
    """Seconds since its start."""
    crashes: int = 0
    """Crashes in a row before this one."""
    first: bool = False
    """No engine of this supervisor has been healthy yet, and this slot was never restarted."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the supervisor was asked to do."""

    until_end: bool = False
    reload: bool = False
    """Code is being worked on: what is wrong with it may be right after the next change."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay` seconds; `crashes` in a row are counted now."""

    delay: float
    crashes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """It did what it was for; it is not started again."""


@dataclass(frozen=True, slots=True)
class Await:
    """It is started again when its code changes."""


@dataclass(frozen=True, slots=True)
class StopAll:
    """No restart would help: stop the others and end with `code`."""

    code: int


Decision = Restart | Finished | Await | StopAll


def decide(ended: Exit, policy: Policy) -> Decision:
    """What to do about an engine process that ended without having been asked to."""
    if ended.code == 0:
        # Without an end to reach it was told to stop by somebody else: it is wanted all the same.
        return Finished() if policy.until_end else Restart(FIRST_DELAY, crashes=0)
    if ended.code in HOPELESS:
        return Await() if policy.reload else StopAll(ended.code)
    if ended.code == NO_BROKER and ended.first:
        # The address has never worked, so it is more likely wrong than down.
        return StopAll(ended.code)
    before = 0 if ended.ran >= HEALTHY_AFTER else ended.crashes
    # Bounded: the power of a long row of crashes would overflow.
    return Restart(min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(before, 10)), crashes=before + 1)
