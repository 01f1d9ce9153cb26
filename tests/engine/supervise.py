"""A `Supervisor` over `child.py`.

python supervise.py FOLDER ENGINES SHUTDOWN_TIMEOUT [until-end] [reload]
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from reflow_kafka.engine.restarts import Policy
from reflow_kafka.engine.supervisor import Supervisor

folder, engines, timeout, *how = sys.argv[1:]


def changes() -> Iterator[None]:
    while True:
        time.sleep(0.02)
        if (mark := Path(folder, "changed")).exists():
            mark.unlink()
            yield


logging.basicConfig(level="DEBUG", format="%(message)s")
supervisor = Supervisor(
    [sys.executable, str(Path(__file__).with_name("child.py")), folder],
    int(engines),
    policy=Policy(until_end="until-end" in how, reload="reload" in how),
    shutdown_timeout=float(timeout),
    changes=changes(),
)
sys.exit(supervisor.run())
