"""``python -m tests.fuzz MINUTES``: the same tests again and again, with more examples, and others each time.

Ends with the first round that fails; hypothesis prints what it takes to see that example again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time


def main(minutes: float) -> int:
    """Rounds of some minutes each, until the time is up."""
    end = time.monotonic() + minutes * 60
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        print(f"round {rounds}, {(end - time.monotonic()) / 60:.1f} minutes left", flush=True)
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/fuzz", "-q", "-m", "not kafka", "--timeout", "1800"],
            env={**os.environ, "REFLOW_FUZZ": "5"},
            check=False,
        )
        if ran.returncode:
            return ran.returncode
    print(f"{rounds} rounds found nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10))
