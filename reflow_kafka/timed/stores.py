"""The named key-value stores of one stage in one lane (pure).

Each lies on a shelf of its own: ``n``, the name, then the keys as text. Values are encoded as they are put,
so that one which cannot be stored fails where it is put, and one that was read and then changed is no part
of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from reflow_kafka.serde.json import own_size
from reflow_kafka.serde.keys import decode_key
from reflow_kafka.state.cache import UnreadableState
from reflow_kafka.state.ordered import after, text
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.expiry import Expiry


def prefix_of(store: str) -> bytes:
    """What the keys of a named store begin with."""
    return b"n" + text(store.encode())


class NamedStore:
    """What ``ctx.store(name)`` gives; see `reflow_kafka.stores.Store`."""

    def __init__(
        self,
        name: str,
        shelf: Shelf[bytes],
        *,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
        ttl: int | None = None,
        expiry: Expiry | None = None,
    ) -> None:
        self.name = name
        self._shelf = shelf
        self._encode = encode
        self._decode = decode
        self._ttl = ttl
        self._expiry = expiry if ttl is not None else None
        self._prefix = prefix_of(name)

    def get(self, key: str) -> Any:
        """The value of a key, None if there is none."""
        return self._value(self._raw_key(key))

    def put(self, key: str, value: Any) -> None:
        """Set the value of a key.

        Raises:
            ValueError, TypeError: the value cannot be stored.
        """
        raw = self._raw_key(key)
        if value is None:
            raise ValueError(
                f"found None as the value of {key!r} in store {self.name!r}; to forget it, delete it"
            )
        data = self._encode(value)
        self._shelf.put(raw, own_size(data))
        if self._expiry is not None and self._ttl is not None:
            self._expiry.touch(self._prefix + raw, self._ttl)

    def delete(self, key: str) -> None:
        """Forget a key."""
        raw = self._raw_key(key)
        self._shelf.delete(raw)
        if self._expiry is not None:
            self._expiry.drop(self._prefix + raw)

    def range(
        self, start: str = "", end: str | None = None, *, prefix: str = ""
    ) -> Iterator[tuple[str, Any]]:
        """Keys and values from `start` to before `end`, those that begin with `prefix`."""
        within = self._raw_key(prefix)
        first = max(self._raw_key(start), within)
        ends = [self._raw_key(end)] if end is not None else []
        ends += [behind] if (behind := after(within)) else []
        return self._found(first, min(ends, default=None))

    def _found(self, first: bytes, end: bytes | None) -> Iterator[tuple[str, Any]]:
        if end is not None and first >= end:
            return
        for raw in self._shelf.keys(first, end):
            value = self._value(raw)
            if value is not None:
                yield decode_key(raw), value

    def _value(self, raw: bytes) -> Any:
        data = self._shelf.get(raw)
        if data is None or (self._expiry is not None and self._expiry.over(self._prefix + raw)):
            return None
        try:
            return self._decode(data)
        except (ValueError, RecursionError) as error:
            raise UnreadableState(
                f"the value of {decode_key(raw)!r} in store {self.name!r} cannot be read: {error}; was it "
                "written by another version of the flow, or by somebody else?"
            ) from error

    def _raw_key(self, key: str) -> bytes:
        if not isinstance(key, str):
            raise TypeError(f"found {key!r} as a key of store {self.name!r}, wanted text: str({key!r})")
        return key.encode("utf-8", "surrogateescape")

    def expired(self, what: bytes) -> None:
        """Forget a key whose time is over."""
        self._shelf.delete(what[len(self._prefix) :])
