from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import orjson
import pytest
from hypothesis import given

from reflow_kafka import Flow
from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.options import Batch, Rate, Retry
from reflow_kafka.topology.describe import describe
from tests.topology.flows import (
    SHOP,
    WEATHER,
    PrintSink,
    counts_of,
    flow,
    flows,
    is_large,
    reply,
    sink,
    source,
    stage,
)

FORMATS: Any = ("tree", "text", "json", "mermaid", "dot")


def told(spec: FlowSpec, format: Any) -> str:
    """The description, with the line of a lambda left out."""
    return re.sub(r"\(line \d+\)", "(line N)", describe(spec, format))


def golden(text: str) -> str:
    return dedent(text).strip("\n")


def test_tree_of_the_weather_flow() -> None:
    assert told(WEATHER, "tree") == golden("""
        weather: 8 partitions

        readings         source  ← weather-readings             key station
        └─ average       stage   ← weather.readings.average ×8  state Last24
           └─ alert      stage   ← weather.average.alert ×8     when lambda (line N)
              └─ alerts  sink    → weather-alerts
    """)


def test_tree_of_merges_and_named_outputs() -> None:
    assert told(SHOP, "tree") == golden("""
        shop: 4 partitions

        web                    source  ← web-orders
        └─ check               stage   ← shop.web.check ×4          key customer, state dict, outputs large odd
           ├─ price            stage   ← shop.check.price ×1        1 partition
           │  ├─ audit         stage   ← shop.price.audit ×4
           │  │  ├─ books      sink    → books                      key id
           │  │  └─ log        sink    ← shop.audit.log ×4
           │  ├─ books ↑               → books
           │  └─ mail          sink    ← shop.price.mail ×4         to PrintSink, when is_large()
           ├─ (large) audit ↑          ← shop.check.large.audit ×4
           ├─ (odd) audit ↑            ← shop.check.odd.audit ×4
           └─ (error) mail ↑           ← shop.check.error.mail ×4
        phone                  source  ← phone-orders               timestamp at
        └─ check ↑                     ← shop.phone.check ×4
    """)  # noqa: E501


def test_tree_of_direct_topics() -> None:
    spec = flow(source("s", "t"), stage("a", "s"), sink("k", "a", topic=str), partitions=3)
    assert describe(spec, "tree", {"t": 12}) == golden("""
        f: 3 partitions, 12 lanes

        s        source  ← t
        └─ a     stage   ← the same ×12, directly
           └─ k  sink    → str
    """)


def test_tree_and_text_of_replies() -> None:
    spec = flow(source("s", "t"), stage("a", "s"), stage("b", "a"), reply("a", "b", when=is_large))
    assert describe(spec) == golden("""
        f: 8 partitions

        s               source  ← t
        └─ a            stage   ← the same ×8, directly
           ├─ b         stage   ← f.a.b ×8
           │  └─ reply  sink    → f.replies              when is_large()
           └─ reply ↑           → f.replies
    """)
    text = describe(spec, "text")
    assert "  lanes        none: a neighbour does its work\n" in text
    assert "  after        a, b\n  topic        f.replies\n" in text
    assert "  f.replies       replies       ×8" in text


def test_text() -> None:
    assert told(WEATHER, "text") == golden("""
        flow weather
          partitions   8
          lanes        8
          group        weather

        source readings
          defined      flow.py:1
          runs         forward
          lanes        8
          followed     average
          topic        weather-readings
          writes       weather.readings.average
          key          station

        stage average
          defined      flow.py:2
          runs         average()
          lanes        8
          after        readings
          followed     alert
          reads        weather.readings.average
          writes       weather.average.alert
          state        Last24
          changelog    weather.average.changelog

        stage alert
          defined      flow.py:2
          runs         alert()
          lanes        8
          after        average
          followed     alerts
          reads        weather.average.alert
          writes       weather-alerts
          when         lambda (line N)

        sink alerts
          defined      flow.py:3
          lanes        none: a neighbour does its work
          after        alert
          topic        weather-alerts

        topics
          weather.progress           progress      ×8
          weather.dead-letters       dead-letters  ×8
          weather.readings.average   edge          ×8
          weather.average.changelog  changelog     ×8
          weather.average.alert      edge          ×8
          weather-readings           external      ×8
          weather-alerts             external      ×8
    """)


def test_json() -> None:
    told_ = orjson.loads(describe(WEATHER, "json"))
    assert list(told_) == ["flow", "partitions", "lanes", "group", "stages", "edges", "topics", "tables"]
    assert told_["stages"][1] == {
        "name": "average",
        "kind": "stage",
        "where": "flow.py:2",
        "does": "average()",
        "topics": [],
        "lanes": 8,
        "key": None,
        "when": None,
        "timestamp": None,
        "out_of_orderness": None,
        "idle_after": None,
        "state": "Last24",
        "changelog": "weather.average.changelog",
        "outputs": [],
        "partitions": None,
        "host": None,
        "concurrency": 1,
        "batch": None,
        "run_in": "loop",
        "timeout": None,
        "rate": None,
        "retry": None,
    }
    assert told_["edges"][2] == {
        "upstream": "alert",
        "output": None,
        "stage": "alerts",
        "topics": ["weather-alerts"],
        "partitions": 8,
        "internal": False,
        "type": "dict",
        "format": "json",
        "chained": False,
    }
    assert told_["topics"][3] == {"name": "weather.average.changelog", "partitions": 8, "kind": "changelog"}


RUN = flow(
    source("s", "t"),
    stage("fetch", "s", concurrency=100, timeout=2.5, rate=Rate(10), outputs=("bad",), retry=Retry(None)),
    stage("split", "fetch", chain=True, retry=Retry(5, backoff=1, on=(OSError, KeyError))),
    sink("report", "fetch.bad", chain=True, retry=Retry(1)),
    stage("scale", "split", run_in="process", batch=Batch(10, within=0.5, per_key=True)),
    sink("store", "scale", connector=PrintSink(), batch=Batch(1000), retry=Retry(3)),
)


def trips() -> FlowSpec:
    """A table that is joined, one after a stage, one whose rows refer to another, and one in every engine."""
    made = Flow("trips", partitions=2)
    made.table("people", topic="people")
    made.stage(lambda ride: ride, name="ride", after="people")
    towns = made.table("towns", after="ride", key="town")
    made.global_table("places", topic="places", type=dict, key="code")

    @made.join("people", towns, on="home")
    def home(person: dict[str, str], town: dict[str, str]) -> None: ...

    return made.spec()


def test_tree_of_tables() -> None:
    assert (
        told(trips(), "tree")
        == golden("""
        trips: 2 partitions

        people                  source  ← people
        ├─ ride                 stage   ← trips.people.ride ×2
        │  └─ towns             stage   ← trips.ride.towns ×2                     key town
        │     └─ home_meetings  stage   ← trips.towns.home_meetings ×2
        │        └─ home        stage   ← trips.home_meetings.home ×2
        └─ home_references      stage   ← trips.people.home_references ×2
           └─ home_meetings ↑           ← trips.home_references.home_meetings ×2
        places                  table   ← places                                  in every engine, key code
    """).rstrip()
    )


def test_text_and_json_of_tables() -> None:
    text = told(trips(), "text")
    assert "\n  runs         table\n" in text
    assert "\n  runs         meetings\n" in text
    assert "global table places\n  topic        places\n  type         dict\n  key          code\n" in text
    found = orjson.loads(told(trips(), "json"))
    assert found["tables"] == [{"name": "places", "topic": "places", "type": "dict", "key": "code"}]
    assert {"name": "places", "partitions": 2, "kind": "external"} in found["topics"]


def test_how_handlers_are_run() -> None:
    assert told(RUN, "tree") == golden("""
        f: 8 partitions

        s                   source  ← t
        └─ fetch            stage   ← the same ×8, directly  outputs bad, concurrency 100, timeout 2.5 s, rate 10 per 1 s, retry for ever
           ├─ split         stage   ← in the same worker     retry 5 attempts on OSError KeyError
           │  └─ scale      stage   ← f.split.scale ×8       run in process, batch 10 of one key within 0.5 s
           │     └─ store   sink    ← f.scale.store ×8       to PrintSink, batch 1000 within 1 s, retry 3 attempts
           └─ (bad) report  sink    ← in the same worker     retry 1 attempt
    """)  # noqa: E501
    assert """
stage split
  defined      flow.py:2
  runs         split()
  lanes        8
  after        fetch
  followed     scale
  writes       f.split.scale
  chained      in the worker of fetch
  retry        5 attempts on OSError KeyError
  waits        1 s, ×2, up to 30 s
""" in told(RUN, "text")
    assert "  s_fetch ==> s_split\n" in told(RUN, "mermaid")
    assert '  s_fetch ==>|"bad"| s_report\n' in told(RUN, "mermaid")
    assert '  "fetch" -> "split" [style=bold];\n' in told(RUN, "dot")
    assert '  "fetch" -> "report" [label="bad", style=bold];\n' in told(RUN, "dot")


def test_how_handlers_are_run_for_programs() -> None:
    told_ = orjson.loads(describe(RUN, "json"))
    stages, edges = {s["name"]: s for s in told_["stages"]}, told_["edges"]
    assert stages["split"]["host"] == "fetch"
    assert stages["split"]["lanes"] == 8
    assert stages["split"]["retry"]["on"] == ["OSError", "KeyError"]
    assert stages["fetch"]["rate"] == {"events": 10, "per": 1.0}
    assert stages["scale"]["batch"]["per_key"] is True
    assert [(e["upstream"], e["stage"], e["topics"]) for e in edges if e["chained"]] == [
        ("fetch", "split", []),
        ("fetch", "report", []),
    ]


def test_mermaid() -> None:
    assert told(SHOP, "mermaid") == golden("""
        flowchart LR
          s_web(["web<br/>web-orders"])
          s_phone(["phone<br/>phone-orders<br/>timestamp at"])
          s_check["check<br/>key customer<br/>state dict<br/>outputs large odd"]
          s_price["price<br/>1 partition"]
          s_audit["audit"]
          s_books[/"books<br/>books<br/>key id"/]
          s_mail[/"mail<br/>to PrintSink<br/>when is_large()"/]
          s_log[/"log"/]
          s_web --> s_check
          s_phone --> s_check
          s_check --> s_price
          s_check -->|"large"| s_audit
          s_check -->|"odd"| s_audit
          s_price --> s_audit
          s_price --> s_books
          s_audit --> s_books
          s_check -->|"error"| s_mail
          s_price --> s_mail
          s_audit --> s_log
    """)


def test_dot() -> None:
    assert told(WEATHER, "dot") == golden(r"""
        digraph "weather" {
          rankdir=LR;
          node [fontname="sans-serif"];
          "readings" [shape=cds, label="readings\nweather-readings\nkey station"];
          "average" [shape=box, label="average\nstate Last24"];
          "alert" [shape=box, label="alert\nwhen lambda (line N)"];
          "alerts" [shape=note, label="alerts\nweather-alerts"];
          "readings" -> "average";
          "average" -> "alert";
          "alert" -> "alerts";
        }
    """)


@given(flows(), counts_of)
@pytest.mark.parametrize("format", FORMATS)
def test_any_flow_can_be_described(format: Any, spec: FlowSpec, counts: dict[str, int | None]) -> None:
    text = describe(spec, format, counts)
    assert text == describe(spec, format, counts)
    assert all(line == line.rstrip() for line in text.splitlines())
    for s in spec.stages:
        assert s.name in text


def test_unknown_formats_are_refused() -> None:
    unknown: Any = "svg"
    with pytest.raises(ValueError, match="found format 'svg', wanted one of tree, text"):
        describe(WEATHER, unknown)
