"""An engine process as far as a supervisor sees it: it notes its start, then does what it finds for it to do.

    python child.py FOLDER

What it does stands in `FOLDER/<number>-<start>`, else in `FOLDER/<number>`, else in `FOLDER/all`:
``exit CODE``, ``kill SIGNAL``, ``stop`` (waits for TERM, ends with 0), ``twice`` (ends with 1 at a second
TERM), ``deaf``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from reflow_kafka.engine.seat import Seat

folder = Path(sys.argv[1])
seat = Seat.given()
assert seat is not None
seat.take()
number = seat.instance.rpartition("-")[2]
with (folder / f"starts-{number}").open("a+") as starts:
    starts.seek(0)
    start = len(starts.readlines()) + 1
terms = 0


def term(*_: object) -> None:
    global terms
    terms += 1


signal.signal(signal.SIGTERM, term)
signal.signal(signal.SIGINT, term)
with (folder / f"starts-{number}").open("a") as starts:
    about = {"pid": os.getpid(), "instance": seat.instance, "started": seat.started}
    starts.write(json.dumps(about) + "\n")

script = next(f for f in (folder / f"{number}-{start}", folder / number, folder / "all") if f.exists())
match script.read_text().split():
    case ["exit", code]:
        sys.exit(int(code))
    case ["kill", number_of_signal]:
        os.kill(os.getpid(), int(number_of_signal))
    case ["stop"]:
        while not terms:
            time.sleep(0.01)
        time.sleep(0.2)  # room for a second signal that must not come
        (folder / f"terms-{number}").write_text(str(terms))
    case ["twice"]:
        while terms < 2:
            time.sleep(0.01)
        sys.exit(1)
    case ["deaf"]:
        while True:
            time.sleep(1)
