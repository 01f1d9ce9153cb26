"""Decoded state of one stage in one lane, and what of it has changed since the last commit.

State objects stay decoded between events and are encoded once per commit, however often they changed
(*lazy*). The price is that an object which a failing handler has half changed cannot always be restored;
then the worker goes back to its last commit and works *careful* for a while: every object is encoded after
every event, so that the bytes before an event are always at hand. Handlers that can suspend always work
careful: a commit during an `await` must not see half a change.

Where the state of a key is found, newest first: `objects` (decoded), `_kept` (encoded since the last
commit), `_pending` (in the commit under way), the store.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from reflow_kafka.errors import ReflowError
from reflow_kafka.serde.json import own_size
from reflow_kafka.state.store import LaneStores
from reflow_kafka.value import CLEARED, State

FORGOTTEN: Final = object()
"""Stands in `dirty` for a key whose state is to be deleted."""


class UnreadableState(ReflowError, ValueError):
    """Bytes in a store that are no state of its stage: fails the events of the key."""


UNREADABLE: Final = (
    ValueError,
    LookupError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    StopIteration,
    struct.error,
)
"""What reading raises if something else is stored than was written. Only for where no code of users runs."""


class StateCache:
    """The state of one stage in one lane.

    Compiled stages read `objects` and write `dirty` directly (a method call per event costs more than the
    look-up itself); everything else goes through the methods.
    """

    def __init__(
        self,
        name: str,
        stores: LaneStores,
        *,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
        factory: Callable[[], Any],
        boxed: bool,
        limit: int = 20_000,
    ) -> None:
        self.name = name
        self.objects: dict[bytes, Any] = {}
        self.dirty: dict[bytes, Any] = {}
        self._aged: dict[bytes, Any] = {}
        self._kept: dict[bytes, bytes | None] = {}
        self._pending: dict[bytes, bytes | None] = {}
        self._stores = stores
        self._generation = max(limit // 2, 1)
        self._boxed = boxed
        self._encode = encode
        self._decode = decode
        self._factory = factory

    def __len__(self) -> int:
        """How many keys have changed since the last commit."""
        return len(self.dirty) + len(self._kept)

    def load(self, key: bytes) -> Any:
        """The state object of a key that is not in `objects`; puts it there."""
        state = self.dirty.get(key)
        if state is None:
            state = self._aged.get(key)
        if state is None or state is FORGOTTEN:
            state = self.decoded(None if state is FORGOTTEN else self._bytes(key))
        if len(self.objects) >= self._generation:  # two generations: a cheap, bounded LRU
            self._aged = self.objects.copy()
            self.objects.clear()  # in place: compiled stages hold it
        self.objects[key] = state
        return state

    def peek(self, key: bytes) -> bytes | None:
        """The encoded state of a key after its last finished event; for queries and tests."""
        state = self.dirty.get(key)
        if state is None:
            return self._bytes(key)
        return None if state is FORGOTTEN else self.encoded(state)

    def _bytes(self, key: bytes) -> bytes | None:
        for layer in (self._kept, self._pending):
            if key in layer:
                return layer[key]
        return self._stores.get(self.name, key)

    def encoded(self, state: Any) -> bytes | None:
        """The bytes of a state, to be kept; None if it is cleared.

        Raises:
            ValueError, TypeError: it cannot be encoded.
        """
        value = state.value if self._boxed else state
        return None if value is CLEARED else own_size(self._encode(value))

    def decoded(self, raw: bytes | None) -> Any:
        """A state object from its bytes, or from the factory.

        Raises:
            UnreadableState: the bytes are no state of this stage.
        """
        try:
            value = self._factory() if raw is None else self._decode(raw)
        except (ValueError, RecursionError) as error:
            if raw is None:
                raise
            raise UnreadableState(
                f"the state of this key in store {self.name!r} cannot be read: {error}; was it written by "
                "another version of the flow, or by somebody else?"
            ) from error
        return State(value) if self._boxed else value

    def keep(self, key: bytes, state: Any) -> None:
        """Encode the state of a key now (careful work).

        Raises:
            ValueError, TypeError: the state cannot be encoded; the event that changed it has failed.
        """
        value = state.value if self._boxed else state  # not by `encoded`: this is done after each event
        self._kept[key] = None if value is CLEARED else own_size(self._encode(value))

    def put(self, key: bytes, state: Any, raw: bytes | None) -> None:
        """The same with a state that is encoded already (None: it is deleted); cannot fail."""
        self._kept[key] = raw
        if raw is None or self.objects.get(key) is not state:
            self.objects.pop(key, None)
            self._aged.pop(key, None)

    def forget(self, key: bytes, *, careful: bool = False) -> None:
        """Delete the state of a key; its next event starts from the factory again."""
        self.objects.pop(key, None)
        self._aged.pop(key, None)
        if careful:
            self._kept[key] = None
        else:
            self.dirty[key] = FORGOTTEN

    def undo(self, key: bytes) -> bool:
        """Make the state of a key what it was before the event that has just failed, if that is known."""
        if key in self.dirty:
            return False
        self.objects.pop(key, None)
        self._aged.pop(key, None)
        return True

    def encode(self) -> None:
        """Encode what is to be in the next snapshot, which cannot fail then.

        Raises:
            ValueError, TypeError: some state cannot be encoded; `rewind` and work careful to find which.
        """
        changes = self._kept
        for key, state in self.dirty.items():
            changes[key] = None if state is FORGOTTEN else self.encoded(state)
        self.dirty.clear()  # in place: compiled stages hold it

    def snapshot(self) -> dict[bytes, bytes | None]:
        """What changed since the last snapshot, encoded; pending until `settled`.

        Raises:
            ValueError, TypeError: as `encode` does.
        """
        self.encode()
        changes, self._kept = self._kept, {}
        self._pending = changes
        return changes

    def settled(self) -> None:
        """The last snapshot is in the store."""
        self._pending = {}

    def rewind(self) -> None:
        """Forget everything since the last snapshot."""
        for key in self.dirty:
            self.objects.pop(key, None)
            self._aged.pop(key, None)
        for key in self._kept:
            self.objects.pop(key, None)
            self._aged.pop(key, None)
        self.dirty.clear()
        self._kept.clear()
