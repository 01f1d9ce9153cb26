"""How many examples a test makes."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("REFLOW_FUZZ", "1"))
"""How many times as many examples as in the suite; from 2 on they are others each time."""


def examples(count: int) -> settings:
    """So many in the suite, the same each time."""
    return settings(
        max_examples=count * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        print_blob=True,
    )
