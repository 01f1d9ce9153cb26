"""What is done to a running flow, kind by kind: how a fault begins and how it ends."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.chaos.schedule import WORKERS, Fault
from tests.chaos.slot import Slot
from tests.chaos.world import World

Act = Callable[[World, Fault], object]


def _slot(world: World, fault: Fault) -> Slot:
    return world.slots[fault.place]


# --- workers


def _die_at(world: World, fault: Fault) -> None:
    _slot(world, fault).kill()
    _slot(world, fault).start(fault.detail)


def _damage(world: World, fault: Fault) -> None:
    slot = _slot(world, fault)
    if fault.detail == "delete in use":
        slot.spoil()
    else:
        slot.kill()
    damage(slot.data_dir, fault.detail, random.Random(str(fault)))


def damage(data_dir: Path, how: str, chance: random.Random) -> Path | None:
    """Do something to the local state of a lane; returns to what."""
    if not (lanes := sorted(path for path in data_dir.glob("*/lane-*") if path.is_dir())):
        return None
    lane = chance.choice(lanes)
    if how.startswith("delete"):
        shutil.rmtree(lane, ignore_errors=True)  # its user may be writing
        return lane
    if not (files := sorted(path for path in lane.iterdir() if path.is_file() and path.stat().st_size)):
        return None
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    if how == "truncate":
        del content[chance.randrange(len(content)) :]
    else:
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] ^= chance.randint(1, 255)
    file.write_bytes(content)
    return file


def _after_damage(world: World, fault: Fault) -> None:
    """Whoever has lived on with files that are gone is killed at last."""
    _slot(world, fault).kill()
    _slot(world, fault).start()


def _fill(world: World, fault: Fault) -> None:
    _slot(world, fault).spoil()
    _slot(world, fault).volume.fill()


def _free(world: World, fault: Fault) -> None:
    """A process that has met the full disk ends by itself, or goes on."""
    _slot(world, fault).volume.free()


def _join(world: World, _: Fault) -> None:
    joiner = world.slots[WORKERS]
    if joiner.worker is None:  # the last one may still be leaving
        joiner.start()


# --- brokers and network


def _kill_broker(world: World, fault: Fault) -> None:
    world.trouble()
    world.cluster.halt(fault.place, kill=True)


def _stop_broker(world: World, fault: Fault) -> None:
    world.trouble()
    world.beside(lambda: world.cluster.halt(fault.place, kill=False))


def _all_away(world: World, _: Fault) -> None:
    world.trouble()
    world.cluster.halt(kill=True)


def _start_brokers(world: World, _: Fault) -> None:
    def start() -> None:
        world.cluster.start()
        world.trouble()  # it may have taken long

    world.trouble()
    world.beside(start)


def _between(fault: Fault) -> tuple[int | None, int | None]:
    """Which worker and which broker do not reach each other; None: all."""
    way = fault.place if fault.detail == "worker" else None
    return way, fault.place if fault.detail == "broker" else None


def _cut(world: World, fault: Fault) -> None:
    world.trouble()
    world.cluster.network.cut(*_between(fault))


def _freeze(world: World, fault: Fault) -> None:
    world.trouble()
    world.cluster.network.freeze(*_between(fault))


def _slow(world: World, fault: Fault) -> None:
    world.cluster.network.slow(float(fault.detail))


def _heal(world: World, _: Fault) -> None:
    world.trouble()
    world.cluster.network.heal()


# --- time


def _jump(world: World, fault: Fault) -> None:
    world.ahead += int(fault.detail)


def _after_jump(world: World, fault: Fault) -> None:
    """Only those who were behind return: after a time that has come, everything older would be late."""
    world.ahead -= min(0, int(fault.detail))


def _nothing(_: World, __: Fault) -> None:
    pass


ACTS: dict[str, tuple[Act, Act]] = {
    "kill": (lambda w, f: _slot(w, f).kill(), lambda w, f: _slot(w, f).start()),
    "die at": (_die_at, _nothing),
    "pause": (lambda w, f: _slot(w, f).pause(), lambda w, f: _slot(w, f).resume()),
    "bounce": (lambda w, f: _slot(w, f).leave(again=True), _nothing),
    "damage": (_damage, _after_damage),
    "fill the disk": (_fill, _free),
    "join": (_join, lambda w, _: w.slots[WORKERS].leave(again=False)),
    "kill a broker": (_kill_broker, _start_brokers),
    "stop a broker": (_stop_broker, _start_brokers),
    "all brokers away": (_all_away, _start_brokers),
    "cut": (_cut, _heal),
    "freeze": (_freeze, _heal),
    "slow": (_slow, _heal),
    "trim": (lambda w, _: w.beside(w.trim), _nothing),
    "jump in time": (_jump, _after_jump),
}
"""How each kind of fault begins and ends."""
