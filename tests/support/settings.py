"""How hard, and how exactly reproducible, the tests are that kill processes."""

from __future__ import annotations

import os
import random

SCALE = float(os.environ.get("REFLOW_CHAOS_SCALE", "0.5"))
"""1 = a full round; half of it fits into every run. Larger: more events, more kills, more time."""


def seeded() -> random.Random:
    """Randomness of one test."""
    return random.Random(seed_of())


def seed_of() -> int:
    """The seed of one test; a failure shows it, and REFLOW_CHAOS_SEED replays it."""
    seed = int(os.environ.get("REFLOW_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"REFLOW_CHAOS_SEED={seed}")
    return seed
