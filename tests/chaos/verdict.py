"""After a run: collect what the logs, the group and the disks have, and ask the oracle."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from reflow_kafka.state.ordered import read_number
from reflow_kafka.state.rocks import RocksBackend
from tests.chaos.oracle import check, gone
from tests.chaos.transactions import ENDED, transactions
from tests.chaos.watcher import differs, gathered
from tests.chaos.windowed import Windows, check_windows, untimely
from tests.chaos.world import FOLDED, LANES, OUTPUTS, STAGES, WINDOWED, World
from tests.support.kafka import DEADLINE, Message, Topic, by_key, topics_of

Lanes = dict[int, dict[bytes, bytes]]
"""Lane → key → encoded state."""
Ends = Mapping[str, Mapping[int, int]]


def judge(world: World) -> list[str]:
    """What is wrong after all has been processed and all workers have stopped."""
    outputs = {name: _read(world, world.topic(name)) for name in OUTPUTS}
    records = {stage: _read(world, world.changelog(stage)) for stage in STAGES}
    changelogs = {stage: _latest(messages) for stage, messages in records.items()}
    ends = {stage: _ends(messages) for stage, messages in records.items()}
    orders = world.orders.look()
    logs = {"orders": by_key(orders), **{name: by_key(found) for name, found in outputs.items()}}
    states = {stage: _decoded(changelogs[stage]) for stage in FOLDED}
    wrong = check(*(logs[name] for name in ("orders", "looked", "counted", "totalled")), states)
    if not wrong:  # else this would only repeat it
        windows = (logs[name] for name in ("orders", "counted", "noted", "closed", "late"))
        wrong += check_windows(*windows, _held(changelogs[WINDOWED]), LANES)
        _, early = untimely(logs["orders"], logs["noted"], logs["closed"], LANES)
        wrong += [f"{len(early)} windows were closed too early: {early[:4]}"] if early else []
    wrong += _watched(world, [message for messages in outputs.values() for message in messages])
    wrong += _unfinished(world, orders)
    wrong += _open_transactions(world)
    wrong += [problem for lane in range(LANES) for problem in _local(world, lane, changelogs, ends)]
    return wrong


def compacted(world: World) -> int:
    """How many records of changelogs have been compacted away."""
    found = 0
    for stage in STAGES:
        offsets: dict[int, list[int]] = defaultdict(list)
        for message in _read(world, world.changelog(stage), committed=False):
            offsets[message.partition()].append(message.offset())
        found += sum(map(gone, offsets.values()))
    return found


def _read(world: World, topic: str, *, committed: bool = True) -> list[Message]:
    reader = Topic(world.cluster.inside, topic, committed=committed)
    try:
        return reader.look()
    finally:
        reader.close()


def _watched(world: World, messages: list[Message]) -> list[str]:
    """Whether the reader beside the faults has seen the same; it may have to catch up."""
    seen = world.watcher.finish(len(messages))
    if (error := world.watcher.error) is not None:
        return [f"the reader beside the faults has ended: {error!r}"]
    return differs(seen, gathered(messages))


def _latest(messages: Iterable[Message]) -> Lanes:
    """The last state of each key; deleted ones are none."""
    lanes: Lanes = defaultdict(dict)
    for message in messages:
        if message.value() is None:
            lanes[message.partition()].pop(message.key(), None)
        else:
            lanes[message.partition()][message.key()] = message.value()
    return lanes


def _ends(messages: Iterable[Message]) -> Counter[int]:
    """Lane → offset after its last record."""
    return Counter({message.partition(): message.offset() + 1 for message in messages})


def _decoded(lanes: Lanes) -> dict[str, Any]:
    return {key.decode(): json.loads(value) for states in lanes.values() for key, value in states.items()}


def _held(lanes: Lanes) -> Windows:
    """The windows that are open, from what the changelog keeps of them: w, start, key."""
    return {
        (key[9:].decode(), read_number(key, 1)): json.loads(value)
        for windows in lanes.values()
        for key, value in windows.items()
        if key.startswith(b"w")
    }


def _unfinished(world: World, orders: list[Message]) -> list[str]:
    """Events behind the committed positions; and events finished above them, which nobody waits for now."""
    events = {world.topic("orders"): orders, **{edge: _read(world, edge) for edge in world.edges}}
    places = {(place.topic, place.partition): place for place in world.committed(list(events))}
    wrong = []
    for topic, messages in events.items():
        last: dict[int, int] = {}
        for message in messages:
            last[message.partition()] = max(message.offset(), last.get(message.partition(), -1))
        for lane, offset in last.items():
            place = places.get((topic, lane))
            if place is None or place.offset <= offset:
                at = "nowhere" if place is None else place.offset
                wrong.append(f"{topic}[{lane}]: committed {at}, its last event has offset {offset}")
    return wrong


def _open_transactions(world: World) -> list[str]:
    """Partitions whose last stable offset is not their end, and what coordinators wait for."""
    admin = AdminClient({"bootstrap.servers": world.cluster.inside})
    listed = admin.list_topics(timeout=DEADLINE).topics
    names = [*topics_of(world.cluster.inside, world.flow), "__consumer_offsets"]
    places = [TopicPartition(name, number) for name in names for number in listed[name].partitions]

    def ends(level: IsolationLevel) -> Mapping[tuple[str, int], int]:
        asked = admin.list_offsets({tp: OffsetSpec.latest() for tp in places}, isolation_level=level)
        return {(tp.topic, tp.partition): found.result(DEADLINE).offset for tp, found in asked.items()}

    stable, high = ends(IsolationLevel.READ_COMMITTED), ends(IsolationLevel.READ_UNCOMMITTED)
    known = [pair for node in world.cluster.nodes for pair in transactions(node.bootstrap).items()]
    mine = {name: state for name, state in known if name.startswith(f"{world.flow}-lane-")}
    waiting = [f"transaction {name} is {state}" for name, state in mine.items() if state not in ENDED]
    missing = [f"transaction {name} is unknown" for name in world.transactions if name not in mine]
    return [*waiting, *missing] + [
        f"{topic}[{number}]: a transaction is open, stable up to {stable[topic, number]} of {end}"
        for (topic, number), end in high.items()
        if stable[topic, number] != end
    ]


def _local(world: World, lane: int, changelogs: Mapping[str, Lanes], ends: Ends) -> list[str]:
    """Every local copy that says it is complete is what the changelogs say, bit for bit; there is one."""
    wrong, complete = [], 0
    for slot in world.slots:
        if not (slot.data_dir / world.flow / f"lane-{lane}").exists():
            continue
        stores = RocksBackend(slot.data_dir).open(world.flow, lane, STAGES)
        try:
            mark = stores.mark()
            if mark is None or any(mark.positions.get(stage, 0) < ends[stage][lane] for stage in STAGES):
                continue
            complete += 1
            for stage, lanes in changelogs.items():
                found = dict(stores.scan(stage))
                if found != lanes[lane]:
                    wrong.append(
                        f"lane {lane}: {stage} on disk {slot.number} differs from its changelog: "
                        f"{len(found)} and {len(lanes[lane])} keys"
                    )
        finally:
            stores.close()
    return wrong if complete else [f"lane {lane}: no worker has its state complete"]
