"""Flows made from a seed, each a few stages of all kinds, and what must come out of them.

An event carries what is to happen to it in which stage, so that what becomes of it does not depend on when it
is tried. A state counts the events of its key and folds their ids into a checksum: it tells which events were
counted, and in which order.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from reflow_kafka import Batch, Context, Flow, Reject, Retry, RetryLater
from reflow_kafka.log.api import OutRecord
from reflow_kafka.serde.keys import partition_of
from tests.simulation.hosts import RECORD_LIMIT, Topics
from tests.simulation.stages import Fold, Stage, handler

TIMEOUT = 0.5
SERIAL = ("plain", "generator", "async", "agenerator")
OVERLAPPING = ("overlap", "batch", "keyed-batch")
ALWAYS_FAILS = ("bad", "reject", "hang", "large", "unencodable")
DEAD_ANYWAY = ("reject", "large")
"""What becomes a dead letter even where failures are skipped."""
FAILS_AT_FIRST = ("early", "flaky", "slow")


@dataclass
class Pipeline:
    """A flow, its input, and what is to come out."""

    rng: random.Random
    lanes: int
    exactly_once: bool
    stages: list[Stage] = field(default_factory=list)
    input: list[dict[str, Any]] = field(default_factory=list)
    faults: float = 1.0
    """How often what fails at times does so."""

    name = "sim"

    @classmethod
    def make(cls, rng: random.Random, *, stages: int, events: int) -> Pipeline:
        """A pipeline of at most so many stages and events."""
        pipeline = cls(rng, lanes=rng.choice((1, 1, 2, 3)), exactly_once=rng.random() < 0.85)
        for number in range(rng.randint(1, stages)):
            pipeline.stages.append(_make_stage(rng, number, pipeline.stages, pipeline.lanes))
        followed = {upstream for stage in pipeline.stages for upstream in stage.after}
        pipeline.stages = [
            stage if stage.name in followed else replace(stage, tap=True) for stage in pipeline.stages
        ]
        trouble = rng.choice((0.0, 0.1, 0.3))
        for id in range(rng.randint(1, events)):
            marks = {s.name: pipeline._mark(s) for s in pipeline.stages if rng.random() < trouble}
            event = {"id": id, "k": rng.choice("abc"), "g": rng.choice("xy"), "marks": marks, "via": []}
            pipeline.input.append(event)
        return pipeline

    def _mark(self, stage: Stage) -> str:
        mark = self.rng.choice([*FAILS_AT_FIRST * 3, *ALWAYS_FAILS])
        if mark not in ("large", "unencodable") or (mark == "unencodable" and stage.state):
            return mark
        # A chain is one event to the log: what it refuses of one stage it refuses of all. And what one stage
        # hands to the next is not encoded.
        chains = stage.chain or any(s.chain and stage.name in s.after for s in self.stages)
        return "bad" if chains else mark

    def calm(self) -> None:
        """From now on nothing goes wrong that need not."""
        self.faults = 0.0

    def records(self) -> Iterator[tuple[int, OutRecord]]:
        """The input, with the partition of each record."""
        for event in self.input:
            key = event["k"].encode()
            yield partition_of(key, self.lanes), OutRecord(key, orjson.dumps(event), 1_000)

    def flow(self) -> Flow:
        """The flow, as a program makes it that starts."""
        flow = Flow(self.name, partitions=self.lanes)
        flow.source("source", topic="in")
        for stage in self.stages:
            options: dict[str, Any] = {"retry": stage.retry}
            if stage.rekeys:
                options["key"] = stage.key
            if stage.state:
                options["state"] = Fold
            if stage.chain:
                options["chain"] = True
            if stage.skips:
                options["on_error"] = "skip"
            if stage.lanes is not None:
                options["partitions"] = stage.lanes
            if stage.kind == "overlap":
                options["concurrency"] = stage.concurrency
            if stage.times_out:
                options["timeout"] = TIMEOUT
            if "batch" in stage.kind:
                per_key = stage.kind == "keyed-batch"
                options["batch"] = Batch(self.rng.choice((1, 2, 5)), within=0.05, per_key=per_key)
            flow.stage(handler(self, stage), name=stage.name, after=list(stage.after), **options)
            if stage.tap:
                flow.sink(f"{stage.name}_tap", after=stage.name, topic=f"{stage.name}-out")
        return flow

    # ---- what stages do

    def work(self, stage: Stage, fold: Fold | None, value: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """What a stage makes of an event, at last."""
        seen = fold.add(value["id"]) if fold is not None else None
        padding = ""
        match value["marks"].get(stage.name):
            case "bad":
                raise ValueError(f"{stage.name} fails")
            case "reject":
                raise Reject(f"{stage.name} rejects")
            case "hang" if not stage.times_out:
                raise ValueError(f"{stage.name} would wait for ever")
            case "unencodable":
                if fold is None:
                    return {"id": object()}
                fold.sum = object()
            case "large":
                padding = "x" * 2 * RECORD_LIMIT
            case "early" if self.rng.random() < 0.6 * self.faults:
                raise RetryLater(self.rng.choice((0.0, 0.01, 0.3, 2.0)))
            case "flaky" if ctx.attempt < (stage.retry.attempts or 9) and self.rng.random() < self.faults:
                raise OSError(f"{stage.name} is away")
        return {**value, "via": [*value["via"], stage.name], stage.name: seen, "padding": padding}

    async def wait(self, stage: Stage, value: dict[str, Any]) -> None:
        """What takes time of it."""
        mark = value["marks"].get(stage.name)
        if stage.times_out:
            if mark == "hang":
                await asyncio.get_running_loop().create_future()
        elif mark == "slow" or self.rng.random() < 0.1:
            await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.2)))

    # ---- what must come out

    def passing(self) -> dict[str, Counter[tuple[int, tuple[str, ...]]]]:
        """What each stage lets through: ids, and the ways they came."""
        out: dict[str, Counter[tuple[int, tuple[str, ...]]]] = {
            "source": Counter((event["id"], ()) for event in self.input)
        }
        for stage in self.stages:
            out[stage.name] = Counter()
            for (id, via), times in self._entering(stage, out).items():
                if self.input[id]["marks"].get(stage.name) not in ALWAYS_FAILS:
                    out[stage.name][id, (*via, stage.name)] += times
        return out

    def _entering(self, stage: Stage, out: dict[str, Any]) -> Counter[tuple[int, tuple[str, ...]]]:
        return sum((out[upstream] for upstream in stage.after), Counter())

    def check(self, topics: Topics) -> None:
        """Whether everything came out that must, once, in order, from the right state."""
        out = self.passing()
        dead: Counter[tuple[str, int]] = Counter()
        for stage in self.stages:
            if stage.tap:
                self._check_outputs(stage, out[stage.name], topics[f"{stage.name}-out"])
            if stage.state:
                self._check_state(stage, out[stage.name], topics)
            for (id, _), times in self._entering(stage, out).items():
                if self.input[id]["marks"].get(stage.name) in (DEAD_ANYWAY if stage.skips else ALWAYS_FAILS):
                    dead[stage.name, id] += times
        found: Counter[tuple[str, int]] = Counter()
        for _, value, headers in topics["sim.dead-letters"]:
            found[dict(headers)["reflow.error.stage"].decode(), value["id"]] += 1
        self._compare("dead letters", dead, found)

    def _compare(self, what: str, wanted: Counter[Any], found: Counter[Any]) -> None:
        missing = wanted - found
        more = found - wanted if self.exactly_once else Counter()
        assert not missing, f"{what}: lost {dict(missing)}"
        assert not more, f"{what}: too many of {more}"

    def _check_outputs(self, stage: Stage, wanted: Counter[Any], records: list[Any]) -> None:
        found = Counter((value["id"], tuple(value["via"])) for _, value, _ in records)
        self._compare(f"output of {stage.name}", wanted, found)
        if not self.exactly_once:
            return
        last: dict[Any, int] = {}
        folds: dict[str, Fold] = defaultdict(Fold)
        for key, value, _ in records:
            assert (key or b"").decode() == value[stage.key], f"{stage.name}: key {key!r} of {value}"
            way = (tuple(value["via"]), value["k"], value["g"])
            assert last.get(way, -1) < value["id"], f"{stage.name}: {value['id']} after {last[way]}"
            last[way] = value["id"]
            if stage.state:
                due = folds[value[stage.key]].add(value["id"])
                assert value[stage.name] == due, (
                    f"{stage.name}: state {value[stage.name]}, not {due}: {value}"
                )

    def _check_state(self, stage: Stage, wanted: Counter[Any], topics: Topics) -> None:
        state = {(key or b"").decode(): value for key, value, _ in topics[f"sim.{stage.name}.changelog"]}
        if not self.exactly_once:
            return
        counts: Counter[str] = Counter()
        for (id, _), times in wanted.items():
            counts[self.input[id][stage.key]] += times
        found = {key: value["count"] for key, value in state.items() if value is not None}
        assert found == dict(counts), f"state of {stage.name}: {found}, not {dict(counts)}"
        if stage.tap:
            sums: dict[str, int] = {}
            for key, value, _ in topics[f"{stage.name}-out"]:
                sums[(key or b"").decode()] = value[stage.name][1]
            assert {key: value["sum"] for key, value in state.items() if value is not None} == sums


def _make_stage(rng: random.Random, number: int, before: list[Stage], lanes: int) -> Stage:
    upstream = before[-1] if before and rng.random() < 0.7 else rng.choice([*before, None])
    merges = len(before) > 1 and rng.random() < 0.15
    key = "k" if upstream is None else upstream.key
    rekeys = merges or rng.random() < 0.3
    after = [s.name for s in rng.sample(before, 2)] if merges else [upstream.name if upstream else "source"]
    kind = rng.choice((*SERIAL, *OVERLAPPING))
    return Stage(
        name=f"s{number}",
        after=tuple(after),
        kind=kind,
        key="g" if rekeys else key,
        rekeys=rekeys,
        state=kind != "batch" and rng.random() < 0.7,
        chain=not rekeys and upstream is not None and kind in SERIAL and rng.random() < 0.4,
        skips=rng.random() < 0.15,
        retry=rng.choice((Retry(2, backoff=1.0), Retry(3, backoff=0.01), Retry(1))),
        concurrency=rng.choice((2, 5)),
        lanes=rng.randint(1, lanes) if rekeys and rng.random() < 0.3 else None,
        tap=rng.random() < 0.7,
        times_out=kind not in ("plain", "generator") and rng.random() < 0.2,
    )
