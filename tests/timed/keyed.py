"""A keyed program to be driven, with what its tests have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from reflow_kafka.serde.typed import state_codec
from reflow_kafka.state.shelf import Shelf, Shelves
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.keyed import Book, Keyed, StoreKind
from reflow_kafka.timed.states import States
from tests.timed.driver import STORE, Driver

T = TypeVar("T")


def shelf_maker(stores: LaneStores, shelves: Shelves) -> Callable[..., Shelf[Any]]:
    """Makes shelves as a lane does."""

    def make(prefix: bytes, encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> Shelf[T]:
        return shelves.add(Shelf(stores, STORE, prefix, encode, decode, limit=4))

    return make


def states(factory: Callable[[], Any], *, boxed: bool = False) -> States:
    """States of the type that the factory is."""
    codec = state_codec(factory)
    return States(factory, boxed=boxed, encode=codec.encode, decode=codec.decode)


def store_kind(type: Any, ttl: int | None = None) -> StoreKind:
    """A named store of values of a type."""
    codec = state_codec(type)
    return StoreKind(codec.encode, codec.decode, ttl)


def keyed(
    *,
    state: Callable[[], Any] | None = list,
    boxed: bool = False,
    ttl: int | None = None,
    timers: bool = True,
    stores: Mapping[str, StoreKind] | None = None,
    **code: Callable[..., Any],
) -> Driver:
    """Drives such a stage."""
    kinds = None if state is None else states(state, boxed=boxed)
    return Driver(
        lambda lane, shelves: Keyed(
            shelf_maker(lane, shelves), states=kinds, ttl=ttl, timers=timers, stores=stores
        ),
        **code,
    )


def book(driver: Driver) -> Book:
    """What code asks for timers and stores."""
    program = driver.program
    assert isinstance(program, Keyed)
    return program.book
