"""A process that runs handlers starts no engine."""

from __future__ import annotations

import subprocess
import sys


def test_no_engine_starts_where_handlers_run() -> None:
    program = """
import asyncio
from reflow_kafka import Engine, Flow, UsageError
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.process import run_handlers

flow = Flow("f")
flow.sink("out", after=flow.source("in", topic="i"), topic="o")

async def main():
    async with Engine(flow, log=MemoryLog()):
        pass

run_handlers()
try:
    asyncio.run(main())
except UsageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert 'if __name__ == "__main__":' in done.stdout
