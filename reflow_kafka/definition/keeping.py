"""What a stage keeps besides windows, and for how long: `ttl=` and `stores=`, as a user writes them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Final, get_origin

from reflow_kafka.definition.arguments import read_duration
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import ANY, Handler, StateBy
from reflow_kafka.serde.json import UnsupportedType
from reflow_kafka.serde.typed import state_codec
from reflow_kafka.stores import KeyValue

STORE_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


def read_ttl(given: Any, handler: Handler, name: str, place: Place) -> float | None:
    if given is None:
        return None
    what = "how long an untouched state is kept"
    time = read_duration("ttl", given, name, place, what=what, least=0.001)
    if handler.state_by is StateBy.NONE:
        place.fail(
            "ttl= forgets states, and the stage has none: give it state=, or for a store "
            'stores={"name": KeyValue(dict, ttl=...)}',
            stage=name,
        )
    return time


def read_stores(given: Any, name: str, place: Place) -> dict[str, KeyValue]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        place.fail(
            'stores= gives names to types, such as stores={"orders": dict} or '
            f'{{"seen": KeyValue(int, ttl=3600)}}, not {given!r}',
            stage=name,
        )
    return {store: _store(store, kind, name, place) for store, kind in given.items()}


def _store(store: Any, given: Any, name: str, place: Place) -> KeyValue:
    if not isinstance(store, str) or not STORE_NAME.fullmatch(store):
        place.fail(f"a store's name is lower-case letters, digits and underscores, not {store!r}", stage=name)
    if given is KeyValue:
        place.fail(f"store {store!r}: say what its values are, such as KeyValue(int)", stage=name)
    kind = given if isinstance(given, KeyValue) else KeyValue(given)
    if not (inspect.isclass(kind.type) or get_origin(kind.type) is not None or kind.type is ANY):
        place.fail(
            f"store {store!r} is given {kind.type!r}; give the type of its values, such as dict, int or "
            "a dataclass",
            stage=name,
        )
    try:
        state_codec(kind.type)
    except UnsupportedType as error:
        place.fail(f"the values of store {store!r} cannot be stored: {error}", stage=name, cause=error)
    return kind
