from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from reflow_kafka.definition.spec import FlowSpec, StageSpec
from reflow_kafka.options import Batch, Rate, Retry
from reflow_kafka.topology.plan import Output
from reflow_kafka.topology.planner import make_plan
from tests.topology.flows import (
    SHOP,
    Last24,
    flow,
    flows,
    is_large,
    sink,
    source,
    stage,
)


@given(flows())
def test_the_hash_is_stable(spec: FlowSpec) -> None:
    assert make_plan(spec).hash == make_plan(replace(spec)).hash


@pytest.mark.parametrize(
    "changed",
    [
        [source("s", "t", key="other"), stage("a", "s", state=dict), sink("k", "a", topic="u")],
        [source("s", "x", key="id"), stage("a", "s", state=dict), sink("k", "a", topic="u")],
        [source("s", "t", key="id"), stage("b", "s", state=dict), sink("k", "b", topic="u")],
        [source("s", "t", key="id"), stage("a", "s", state=Last24), sink("k", "a", topic="u")],
        [source("s", "t", key="id"), stage("a", "s"), sink("k", "a", topic="u")],
        [source("s", "t", key="id"), stage("a", "s", state=dict, when=is_large), sink("k", "a", topic="u")],
        [source("s", "t", key="id"), stage("a", "s", state=dict, takes=Last24), sink("k", "a", topic="u")],
        [source("s", "t", key="id"), stage("a", "s", state=dict, partitions=2), sink("k", "a", topic="u")],
        [source("s", "t", key="id"), stage("a", "s", state=dict), sink("k", "a", topic="v")],
        [source("s", "t", key=lambda v: v["id"]), stage("a", "s", state=dict), sink("k", "a", topic="u")],
    ],
)
def test_the_hash_follows_the_shape(changed: list[StageSpec]) -> None:
    spec = [source("s", "t", key="id"), stage("a", "s", state=dict), sink("k", "a", topic="u")]
    assert make_plan(flow(*spec)).hash != make_plan(flow(*changed)).hash


def test_the_hash_leaves_out_the_code_of_handlers() -> None:
    spec = [source("s", "t", key="id"), stage("a", "s")]
    assert spec[1].handler is not None
    other = replace(spec[1], handler=replace(spec[1].handler, target=lambda v: v + 1), on_error="skip")
    assert make_plan(flow(*spec)).hash == make_plan(flow(spec[0], other)).hash


@pytest.mark.parametrize(
    "changed",
    [
        [stage("a", "s"), stage("b", "a")],
        [stage("a", "s"), stage("b", "a", chain=True, state=Last24)],
        [stage("a", "s"), stage("b", "a", chain=True, state=dict), sink("k", "b", topic="u")],
    ],
)
def test_the_hash_follows_a_chain(changed: list[StageSpec]) -> None:
    start = source("s", "t", key="id")
    spec = [start, stage("a", "s"), stage("b", "a", chain=True, state=dict)]
    assert spec[2].handler is not None
    other = replace(spec[2], handler=replace(spec[2].handler, target=lambda v: v + 1))
    assert make_plan(flow(*spec)).hash == make_plan(flow(*spec[:2], other)).hash
    assert make_plan(flow(*spec)).hash != make_plan(flow(start, *changed)).hash


def test_the_hash_leaves_out_how_handlers_are_run() -> None:
    spec = [source("s", "t", key="id"), stage("a", "s")]
    other = replace(spec[1], concurrency=5, batch=Batch(5), retry=Retry(5), timeout=5.0, rate=Rate(5))
    assert make_plan(flow(*spec)).hash == make_plan(flow(spec[0], other)).hash


SCRIPT = """
import sys
from tests.topology.flows import SHOP, flow, source, stage
from reflow_kafka.topology.planner import make_plan
limit = 7
by = lambda v: (v["a"] in {"x", "y", "z"}, v["b"] > limit)
print(make_plan(SHOP).hash, make_plan(flow(source("s", "t", key=by), stage("a", "s"))).hash)
"""


def test_the_hash_is_the_same_in_other_processes() -> None:
    root = Path(__file__).parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONPATH": str(root), "PYTHONHASHSEED": seed},
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert found.pop().split()[0] == make_plan(SHOP).hash


def test_outputs_compare_by_value() -> None:
    assert isinstance(make_plan(SHOP).nodes[0].outputs[0], Output)
    assert make_plan(SHOP) == make_plan(SHOP)
