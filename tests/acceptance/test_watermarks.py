"""Time goes from worker to worker: lanes without traffic, or without an owner for a while, do not stop it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.kafka import Input, by_key, create_topics, produce, read_committed
from tests.support.waiting import wait_until
from tests.support.workers import Workers

LANES = 8
SIZE = 10_000


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_windows_close_on_workers_that_come_and_go(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    clicks, counted, late = (f"{unique}-{name}" for name in ("clicks", "counted", "late"))
    create_topics(kafka_bootstrap, [clicks, counted, late], partitions=LANES)
    began = int(time.time() * 1000) // SIZE * SIZE

    def click(after: int) -> None:
        """One click by each of three people on each of two pages; most partitions get none."""
        at = began + after
        who = [(name, page) for name in ("ada", "bob", "eve") for page in ("home", "shop")]
        produce(kafka_bootstrap, clicks, [Input(n, {"who": n, "page": page}, at) for n, page in who])

    def closed(*clicks_in: int) -> bool:
        """Whether exactly so many windows have closed, with so many clicks on each page."""
        wanted = [{"from": began + n * SIZE, "clicks": count} for n, count in enumerate(clicks_in)]
        return by_key(read_committed(kafka_bootstrap, counted)) == {"home": wanted, "shop": wanted}

    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        first = workers.start("clicks", data_dir=tmp_path / "first")
        second = workers.start("clicks", data_dir=tmp_path / "second")
        wait_until(lambda: first.lanes() and second.lanes(), 60, "both have lanes")
        click(0)
        click(5_000)
        click(SIZE)
        wait_until(lambda: closed(6), 60, "the first windows: idle partitions do not count")
        first.kill()
        click(2 * SIZE)
        wait_until(lambda: closed(6, 3), 60, "the next windows, on the other worker")
        third = workers.start("clicks", data_dir=tmp_path / "first")
        wait_until(lambda: closed(6, 3, 3), 60, "the last windows: time goes on when traffic has ended")
        assert second.stop() == 0
        assert third.stop() == 0
    assert read_committed(kafka_bootstrap, late) == []
