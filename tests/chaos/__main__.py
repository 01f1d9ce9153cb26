"""``make chaos MINUTES=…``: runs in turn, each with a new seed, until the time is over."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.chaos.campaign import Outcome, run
from tests.chaos.schedule import WORKERS
from tests.support.cluster import Cluster
from tests.support.settings import seed_of


def main() -> int:
    """Returns the exit code: 1 if any run went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for how long runs are begun")
    parser.add_argument("--seconds", type=float, default=60, help="how long one run is disturbed")
    given = parser.parse_args()
    outcomes: list[Outcome] = []
    until = time.monotonic() + given.minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="reflow-chaos-"))
    with Cluster(WORKERS + 1) as cluster:
        while not outcomes or time.monotonic() < until:
            outcomes.append(_one(cluster, folder, seed_of(), given.seconds, len(outcomes)))
            cluster.start()  # whatever the last run has left of it
    _tell(outcomes)
    wrong = any(outcome.wrong for outcome in outcomes)
    if wrong:
        print(f"logs of the runs that went wrong: {folder}")
    else:
        shutil.rmtree(folder)
    return int(wrong)


def _one(cluster: Cluster, folder: Path, seed: int, seconds: float, number: int) -> Outcome:
    place = folder / str(seed)
    try:
        outcome = run(cluster, f"chaos-{seed}-{number}", place, seed, seconds)
    except Exception:
        outcome = Outcome(seed, wrong=[traceback.format_exc()])
    for problem in outcome.wrong:
        print(f"WRONG: {problem}")
    told = "WRONG" if outcome.wrong else "right"
    print(
        f"{told}: {outcome.events} events, recovered in {outcome.recovery:.1f} s, "
        f"{outcome.compacted} changelog records compacted away; {dict(outcome.ended)}"
    )
    if not outcome.wrong:
        shutil.rmtree(place)
    return outcome


def _tell(outcomes: list[Outcome]) -> None:
    print(f"\n{'seed':>12}  {'faults':>6}  {'events':>8}  {'compacted':>9}  {'recovery':>8}  result")
    for one in outcomes:
        result = f"WRONG ({len(one.wrong)})" if one.wrong else "right"
        counts = f"{one.faults.total():>6}  {one.events:>8}  {one.compacted:>9}"
        print(f"{one.seed:>12}  {counts}  {one.recovery:>6.1f} s  {result}")
    faults = sum((one.faults for one in outcomes), Counter[str]())
    ended = sum((one.ended for one in outcomes), Counter[str]())
    print(f"\n{len(outcomes)} runs, {faults.total()} faults, {sum(one.events for one in outcomes)} events")
    for what, counts in (("faults", faults), ("processes", ended)):
        print(f"{what}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))


if __name__ == "__main__":
    sys.exit(main())
