"""Bringing together what has the same key: `join`, `table`, `global_table`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Unpack, overload

from reflow_kafka.definition.joins import Joined, Terms, join_specs
from reflow_kafka.definition.place import Place, callers_place, did_you_mean
from reflow_kafka.definition.spec import UpstreamRef
from reflow_kafka.definition.tables import global_table_spec, table_spec
from reflow_kafka.handle import Stage, Table
from reflow_kafka.serde.keys import KeyOf
from reflow_kafka.serde.typed import Format
from reflow_kafka.surface.adding import Surface, called, decorator
from reflow_kafka.surface.typed import F, T, TableOptions, TimedOptions, Upstream
from reflow_kafka.units import Duration


class Joins(Surface):
    """What a flow offers to bring events and rows together."""

    @overload
    def table(
        self,
        name: str,
        /,
        *,
        topic: str,
        type: type[T],
        key: KeyOf | None = ...,
        **options: Unpack[TableOptions],
    ) -> Table[T]: ...
    @overload
    def table(
        self,
        name: str,
        /,
        *,
        after: Upstream,
        type: type[T],
        key: KeyOf | None = ...,
        partitions: int = ...,
    ) -> Table[T]: ...
    @overload
    def table(
        self, name: str, /, *, topic: str, key: KeyOf | None = ..., **options: Unpack[TableOptions]
    ) -> Table[Any]: ...
    @overload
    def table(
        self, name: str, /, *, after: Upstream, key: KeyOf | None = ..., partitions: int = ...
    ) -> Table[Any]: ...
    def table(self, name: str, /, *, after: Any = None, **options: Any) -> Any:
        """A table: the events of a topic, or of a stage, are rows, of which the last of each key counts.

        An event without value, a tombstone, deletes the row of its key. Each join keeps the rows that it
        needs; a table that nothing is joined with keeps none.

        Args:
            topic: where the rows come from, from its beginning on.
            after: or the stage whose results they are.
            type: what they are decoded as.
            key: key of the rows: a field's name or a function of the row (the key they have).
            format, timestamp, out_of_orderness: of a topic, as for `source`.
            idle_after: as for `source`, but after a second: rows change seldom, and whoever asks for the row
                of a time need not wait for another once the topic has been read to its end.
            partitions: after a stage, as for `stage`.
        """
        place = callers_place()
        draft = self._draft
        refs = None if after is None else draft.refs(after, place, stage=called(name, {}))
        handle = draft.add(table_spec(name, place, draft.on_error, refs, **options), place)
        return Table(handle.flow, handle.ref)

    @overload
    def global_table(
        self, name: str, /, *, topic: str, type: type[T], key: KeyOf | None = ..., format: str | Format = ...
    ) -> Table[T]: ...
    @overload
    def global_table(
        self, name: str, /, *, topic: str, key: KeyOf | None = ..., format: str | Format = ...
    ) -> Table[Any]: ...
    def global_table(self, name: str, /, **options: Any) -> Any:
        """A table that each engine holds as a whole, in memory, loaded before its lanes start to work.

        A handler that has a parameter of its name gets it, and asks it by any key: ``name.get(key)``, None if
        there is no row. It shows what the topic holds at that moment, whatever the time of an event.

        Args:
            topic: where the rows come from: the last of each key counts, a tombstone deletes it.
            type: what they are decoded as.
            key: key of the rows: a field's name or a function of the row (the key they have).
            format: how they are written, as for `source`.
        """
        place = callers_place()
        self._draft.add_resource(global_table_spec(name, place, **options), place)
        return Table(self._draft.flow, UpstreamRef(name))

    def join(
        self,
        left: Upstream,
        right: Upstream,
        /,
        *,
        how: Literal["inner", "left", "outer"] = "inner",
        within: Duration | tuple[Duration, Duration] | None = None,
        on: KeyOf | None = None,
        as_of: Literal["event-time", "latest"] | None = None,
        grace: Duration | None = None,
        copartitioned: bool = False,
        **options: Unpack[TimedOptions],
    ) -> Callable[[F], F]:
        """Decorates ``fn(left, right)``, which gets what belongs together; what is not there is None.

        Two *streams*: each pair of events of one key whose times are not further apart than `within`. With
        ``how="left"`` or ``"outer"``, events that have met no other come alone once their time has passed.

        A stream and a *table*: each event with the row of its key.

        Two *tables*: both rows of a key, whenever one of them changes. The result is a table, too: a result
        that is no more is emitted as a tombstone.

        Args:
            how: ``"inner"``: only what has something on the other side; ``"left"``: all of the left;
                ``"outer"``: all of both.
            within: of two streams: seconds between the events of a pair, or how much (older, younger) the
                right one may be; both count.
            on: key of the row that belongs to a left event or row: a field's name or a function of it (its
                own key). Of two tables: results have the key of the left row.
            as_of: of a stream and a table: ``"event-time"``: the row that held at the event's time, for which
                the event waits until the watermark has passed it; ``"latest"``: the row there is when it
                comes.
            grace: how long events are waited for after the watermark has passed their time (0).
            copartitioned: True: topics on both sides have the same keys in partitions of the same number, so
                they are read as they are, in the order of their timestamps, instead of being partitioned
                anew. Their sources have neither `key` nor `timestamp`, and no other stage follows them.
            name, key, partitions, outputs, retry, on_error, timeout, rate: as for `stage`.
        """
        place = callers_place()
        terms = Terms(how, within, on, as_of, grace, copartitioned)

        def add(target: Any) -> Stage[Any]:
            draft = self._draft
            given: dict[str, Any] = {"on_error": draft.on_error, **options}
            name = called(target, given)
            if "after" in given:
                wanted = "what is joined stands in front, flow.join(left, right, ...)"
                place.fail(f"unknown option 'after': {wanted}", stage=name)
            sides = (self._side(left, name, place), self._side(right, name, place))
            specs = join_specs(target, *sides, terms, place, draft.retry, **given)
            return [draft.add(spec, place) for spec in specs][-1]

        return decorator(add)

    def _side(self, upstream: Any, name: str | None, place: Place) -> Joined:
        refs = self._draft.refs(upstream, place, stage=name)
        if len(refs) != 1:
            place.fail("a join has one stage on each side: merge several in a stage of their own", stage=name)
        (ref,) = refs
        spec = self._draft.defined(ref)
        if spec is None and self._draft.is_global(ref.stage):
            place.fail(
                f"{ref.stage!r} is a global table, at hand in every handler: give a stage a parameter "
                f"{ref.stage} and ask it, {ref.stage}.get(key)",
                stage=name,
            )
        if spec is None:
            hint = did_you_mean(ref.stage, self._draft.names)
            place.fail(
                f"there is no {str(ref)!r} yet: define what is joined before the join{hint}", stage=name
            )
        return Joined(ref, spec.table and ref.output is None)
