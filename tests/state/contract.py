"""What every state backend must do; `test_rocks` and `test_memory` run it against theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflow_kafka.errors import StateError
from reflow_kafka.state.store import LaneStores, StateBackend, StoreMark

KEY = st.one_of(
    st.sampled_from([b"", b"a", b"aa", b"a\x00", b"a\x00b", b"ab", b"\xff", b"\xff\xff", b"\xff\x00"]),
    st.binary(max_size=6),
)
VALUE = st.one_of(st.none(), st.binary(max_size=20))
STEP = st.one_of(
    st.lists(st.tuples(st.sampled_from(["one", "two"]), KEY, VALUE), max_size=8),
    st.just("reopen"),
)


def mark(at: int = 0, *stores: str) -> StoreMark:
    return StoreMark("history", dict.fromkeys(stores or ("one", "two"), at), 1_000 + at)


class BackendContract:
    """Subclasses give a fixture `backend`."""

    @pytest.fixture
    def stores(self, backend: StateBackend) -> Iterator[LaneStores]:
        stores = backend.open("flow", 0, ["one", "two"])
        yield stores
        stores.close()

    def test_new_stores_are_empty(self, stores: LaneStores) -> None:
        assert stores.mark() is None
        assert stores.get("one", b"a") is None
        assert list(stores.scan("one")) == []

    def test_content_and_mark_stay(self, backend: StateBackend) -> None:
        first = backend.open("flow", 0, ["one", "two"])
        first.write({"one": [(b"a", b"1"), (b"b", b"")], "two": [(b"a", b"2")]}, mark(7))
        assert first.mark() == mark(7)
        first.close()
        again = backend.open("flow", 0, ["one", "two"])
        assert again.mark() == mark(7)
        assert (again.get("one", b"a"), again.get("one", b"b"), again.get("two", b"a")) == (b"1", b"", b"2")
        again.write({"one": [(b"a", None), (b"never", None)]}, mark(8))
        assert (again.get("one", b"a"), again.get("two", b"a"), again.mark()) == (None, b"2", mark(8))
        again.close()

    def test_lanes_and_flows_are_apart(self, backend: StateBackend) -> None:
        places = [("flow", 0), ("flow", 1), ("flow", 10), ("other", 0)]
        opened = {place: backend.open(*place, ["one"]) for place in places}
        for (flow, lane), stores in opened.items():
            stores.write({"one": [(b"k", f"{flow}{lane}".encode())]}, mark(lane, "one"))
        for (flow, lane), stores in opened.items():
            assert stores.get("one", b"k") == f"{flow}{lane}".encode()
            assert stores.mark() == mark(lane, "one")
            stores.close()

    def test_the_last_change_of_a_key_wins(self, stores: LaneStores) -> None:
        stores.write({"one": [(b"k", b"1"), (b"k", None), (b"k", b"2"), (b"d", b"1"), (b"d", None)]}, mark())
        assert list(stores.scan("one")) == [(b"k", b"2")]

    @pytest.mark.parametrize(
        ("prefix", "found"),
        [
            (b"", [b"", b"a", b"a\x00", b"ab", b"b", b"\xff", b"\xffa", b"\xff\xff"]),
            (b"a", [b"a", b"a\x00", b"ab"]),
            (b"a\x00", [b"a\x00"]),
            (b"\xff", [b"\xff", b"\xffa", b"\xff\xff"]),
            (b"\xff\xff", [b"\xff\xff"]),
            (b"c", []),
        ],
    )
    def test_scan_finds_a_prefix_in_order(
        self, stores: LaneStores, prefix: bytes, found: list[bytes]
    ) -> None:
        keys = [b"\xff\xff", b"b", b"a", b"ab", b"", b"a\x00", b"\xff", b"\xffa"]
        stores.write({"one": [(key, b"v" + key) for key in keys], "two": [(b"ax", b"")]}, mark())
        assert list(stores.scan("one", prefix)) == [(key, b"v" + key) for key in found]

    @pytest.mark.parametrize(
        ("start", "end", "found"),
        [
            (b"", b"", [b"", b"a", b"a\x00", b"b", b"\xff"]),
            (b"a", b"b", [b"a", b"a\x00"]),
            (b"a\x00", b"", [b"a\x00", b"b", b"\xff"]),
            (b"aa", b"b", []),
            (b"b", b"a", []),
            (b"b", b"b", []),
        ],
    )
    def test_a_range_ends_before_its_end(
        self, stores: LaneStores, start: bytes, end: bytes, found: list[bytes]
    ) -> None:
        keys = [b"b", b"\xff", b"a", b"", b"a\x00"]
        stores.write({"one": [(key, b"v" + key) for key in keys], "two": [(b"aa", b"")]}, mark())
        assert list(stores.range("one", start, end)) == [(key, b"v" + key) for key in found]

    def test_a_scan_does_not_see_later_writes(self, stores: LaneStores) -> None:
        stores.write({"one": [(b"a", b"1"), (b"c", b"1")]}, mark(1))
        scan = stores.scan("one")
        assert next(scan) == (b"a", b"1")
        stores.write({"one": [(b"b", b"2"), (b"c", b"2"), (b"d", b"2")]}, mark(2))
        assert list(scan) == [(b"c", b"1")]
        assert [key for key, _ in stores.scan("one")] == [b"a", b"b", b"c", b"d"]

    def test_large_keys_and_values(self, stores: LaneStores) -> None:
        key, value = b"k" * 65_536, b"\x00\xff" * 2_000_000
        stores.write({"one": [(key, value), (key + b"x", b"other")]}, mark())
        assert stores.get("one", key) == value
        assert [len(k) for k, _ in stores.scan("one", key)] == [65_536, 65_537]

    def test_a_closed_store_says_so(self, backend: StateBackend) -> None:
        stores = backend.open("flow", 0, ["one"])
        stores.write({"one": [(b"a", b""), (b"b", b"")]}, mark(0, "one"))
        scan = stores.scan("one")
        next(scan)
        stores.close()
        stores.close()
        for use in (
            lambda: stores.get("one", b"a"),
            lambda: next(scan),
            lambda: list(stores.scan("one")),
            lambda: stores.write({}, mark()),
        ):
            with pytest.raises(StateError, match="closed"):
                use()
        backend.open("flow", 0, ["one"]).close()

    def test_a_write_that_fails_leaves_nothing(self, stores: LaneStores) -> None:
        def pairs() -> Iterator[tuple[bytes, bytes]]:
            yield b"a", b"1"
            raise RuntimeError("half-way")

        with pytest.raises(RuntimeError, match="half-way"):
            stores.write({"one": pairs()}, mark())
        with pytest.raises(ValueError, match="one"):
            stores.write({"one": [(b"a", b"1")]}, mark(0, "two"))
        assert stores.get("one", b"a") is None
        assert stores.mark() is None

    def test_an_unknown_store_is_a_key_error(self, stores: LaneStores) -> None:
        with pytest.raises(KeyError):
            stores.get("three", b"a")

    def test_set_aside_leaves_nothing(self, backend: StateBackend) -> None:
        stores = backend.open("flow", 0, ["one"])
        stores.write({"one": [(b"a", b"1")]}, mark(0, "one"))
        stores.close()
        backend.set_aside("flow", 0, "wrong incarnation")
        stores = backend.open("flow", 0, ["one"])
        assert stores.mark() is None
        assert stores.get("one", b"a") is None
        stores.close()

    def test_a_store_without_position_is_empty(self, backend: StateBackend) -> None:
        """One that the flow lost and got back must not return with what it held long ago."""
        stores = backend.open("flow", 0, ["one", "two"])
        stores.write({"one": [(b"a", b"1")], "two": [(b"a", b"2")]}, mark(5))
        stores.close()
        stores = backend.open("flow", 0, ["one", "three"])
        assert stores.mark() == StoreMark("history", {"one": 5}, 1_005)
        assert stores.get("three", b"a") is None
        stores.close()
        stores = backend.open("flow", 0, ["two", "one"])
        assert stores.mark() == StoreMark("history", {"one": 5}, 1_005)
        assert stores.get("two", b"a") is None
        assert stores.get("one", b"a") == b"1"
        stores.close()

    def test_a_store_may_be_called_anything(self, backend: StateBackend) -> None:
        names = ["default", "mark", "store.default", "a.b", "größe"]
        stores = backend.open("flow", 0, names)
        stores.write({name: [(b"mark", name.encode())] for name in names}, mark(1, *names))
        stores.close()
        stores = backend.open("flow", 0, names)
        assert [stores.get(name, b"mark") for name in names] == [name.encode() for name in names]
        stores.close()

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(steps=st.lists(STEP, max_size=12), prefix=KEY)
    def test_it_behaves_like_a_dictionary(
        self, backend: StateBackend, steps: list[list[tuple[str, bytes, bytes | None]] | str], prefix: bytes
    ) -> None:
        backend.set_aside("model", 0, "next example")
        model: dict[str, dict[bytes, bytes]] = {"one": {}, "two": {}}
        stores = backend.open("model", 0, model)
        expected: StoreMark | None = None
        for number, step in enumerate(steps):
            if isinstance(step, str):
                stores.close()
                stores = backend.open("model", 0, model)
            else:
                expected = mark(number)
                stores.write({s: [(k, v) for n, k, v in step if n == s] for s in model}, expected)
                for name, key, value in step:
                    if value is None:
                        model[name].pop(key, None)
                    else:
                        model[name][key] = value
            assert stores.mark() == expected
        for name, content in model.items():
            assert list(stores.scan(name)) == sorted(content.items())
            assert list(stores.scan(name, prefix)) == sorted(
                (k, v) for k, v in content.items() if k.startswith(prefix)
            )
            assert all(stores.get(name, key) == content.get(key) for key in [*content, prefix, b"none"])
        stores.close()
