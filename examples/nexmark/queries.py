"""Nexmark's queries 0 to 8, each a flow of its own, and all of them in one.

reflow-kafka worker examples/nexmark/queries.py:q5 --until-end     one query, on the embedded log
reflow-kafka consume nexmark-q5                                    its results
reflow-kafka worker examples/nexmark/queries.py:flow --until-end   all of them; NEXMARK_EVENTS says how many
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reflow_kafka import Context, Event, Flow, Hopping, Stage, State, Timer, Tumbling, Window

if __package__:
    from .generator import events
else:  # run by its path
    import sys

    sys.path.insert(0, str(Path(__file__).parent))
    from generator import events

COUNT = int(os.environ.get("NEXMARK_EVENTS", "20000"))
WEST = ("OR", "ID", "CA")

Row = dict[str, Any]


def auction_house(position: State[int]) -> Iterator[Event[Row]]:
    """The source: where it goes on after a restart is its state."""
    for event in events(COUNT, position.value):
        position.value += 1
        yield Event(event, key=event["kind"], timestamp=event["time"])


def is_bid(event: Row) -> bool:
    return event["kind"] == "bid"


def is_auction(event: Row) -> bool:
    return event["kind"] == "auction"


def of_auctions(event: Row) -> bool:
    return event["kind"] != "person"


def of_people(event: Row) -> bool:
    return event["kind"] != "bid"


def auction_id(event: Row) -> int:
    """Of an auction, and of the bids for it."""
    return event["id"] if is_auction(event) else event["auction"]  # type: ignore[no-any-return]


def person_id(event: Row) -> int:
    """Of a person, and of the auctions that it sells in."""
    return event["seller"] if is_auction(event) else event["id"]  # type: ignore[no-any-return]


# ---- 0, 1, 2: bids as they are, in euros, and of some auctions


def query0(flow: Flow, source: Stage[Any]) -> None:
    def bids(bid: Row) -> Row:
        return bid

    bids0 = flow.stage(bids, name="q0", after=source, when=is_bid)
    flow.sink("q0_out", after=bids0, topic="nexmark-q0")


def query1(flow: Flow, source: Stage[Any]) -> None:
    def in_euros(bid: Row) -> Row:
        return {**bid, "price": 0.908 * bid["price"]}

    euros = flow.stage(in_euros, name="q1", after=source, when=is_bid)
    flow.sink("q1_out", after=euros, topic="nexmark-q1")


def query2(flow: Flow, source: Stage[Any]) -> None:
    def some(bid: Row) -> Row:
        return {"auction": bid["auction"], "price": bid["price"]}

    selected = flow.stage(some, name="q2", after=source, when=lambda e: is_bid(e) and e["auction"] % 123 == 0)
    flow.sink("q2_out", after=selected, topic="nexmark-q2")


# ---- 3: who in some states sells in category 10


@dataclass
class Seller:
    person: Row | None = None
    auctions: list[int] = field(default_factory=list)


def query3(flow: Flow, source: Stage[Any]) -> None:
    """Each person is joined with all of his auctions, whichever comes first."""

    def sellers(seller: Seller, event: Row) -> Iterator[Row]:
        waiting = []
        if event["kind"] == "person":
            seller.person, waiting, seller.auctions = event, seller.auctions, []
        elif event["category"] == 10:
            waiting = [event["id"]]
        if seller.person is None:
            seller.auctions += waiting
        elif seller.person["state"] in WEST:
            about = {name: seller.person[name] for name in ("name", "city", "state")}
            yield from ({**about, "auction": auction} for auction in waiting)

    joined = flow.stage(sellers, name="q3", after=source, when=of_people, key=person_id, state=Seller)
    flow.sink("q3_out", after=joined, topic="nexmark-q3")


# ---- 4 and 6: what auctions end with


@dataclass
class Auction:
    about: Row | None = None
    best: Row | None = None


def closing(auction: Auction, event: Row, *, ctx: Context) -> None:
    """Bids from the beginning of an auction until it expires; the first of the highest wins."""
    if is_auction(event):
        auction.about = event
        ctx.timer("expired", clock="event-time", at=event["expires"] + 1)  # a bid at `expires` is in time
        return
    in_time = auction.about is not None and event["time"] <= auction.about["expires"]
    if in_time and (auction.best is None or event["price"] > auction.best["price"]):
        auction.best = event


def closed(auction: Auction, timer: Timer, *, ctx: Context) -> Row | None:
    ctx.clear_state()
    if auction.about is None or auction.best is None:
        return None
    about = {name: auction.about[name] for name in ("id", "seller", "category", "expires")}
    return {**about, "price": auction.best["price"]}


def auctions_ending(flow: Flow, source: Stage[Any], name: str) -> Stage[Any]:
    """Auctions that were sold, when they expire."""
    return flow.stage(
        closing,
        name=name,
        after=source,
        when=of_auctions,
        key=auction_id,
        state=Auction,
        on_timer=closed,
    )


def query4(flow: Flow, source: Stage[Any]) -> None:
    """The average closing price of each category, as auctions close."""
    ended = auctions_ending(flow, source, "q4_closing")

    def average(totals: State[tuple[int, int]], sale: Row) -> Row:
        total, count = totals.value
        totals.value = (total + sale["price"], count + 1)
        return {"category": sale["category"], "average": (total + sale["price"]) / (count + 1)}

    averages = flow.stage(average, name="q4", after=ended, key="category", state=lambda: (0, 0))
    flow.sink("q4_out", after=averages, topic="nexmark-q4")


@dataclass
class Sales:
    waiting: dict[str, int] = field(default_factory=dict)
    last: list[int] = field(default_factory=list)


def query6(flow: Flow, source: Stage[Any]) -> None:
    """The average price of a seller's last ten sales, as his auctions close.

    Sales of a seller come from many lanes. So that they count in the order of their time, each sets a timer.
    """
    ended = auctions_ending(flow, source, "q6_closing")

    def sold(sales: Sales, sale: Row, *, ctx: Context) -> None:
        name = f"{sale['expires']}/{sale['id']}"
        sales.waiting[name] = sale["price"]
        ctx.timer(name, clock="event-time", at=sale["expires"] + 2)

    def counted(sales: Sales, timer: Timer, *, ctx: Context) -> Row:
        sales.last = [*sales.last, sales.waiting.pop(timer.name)][-10:]
        return {"seller": int(ctx.key), "average": sum(sales.last) / len(sales.last)}

    averages = flow.stage(sold, name="q6", after=ended, key="seller", state=Sales, on_timer=counted)
    flow.sink("q6_out", after=averages, topic="nexmark-q6")


# ---- 5, 7: the best of each window


@dataclass
class Best:
    most: float = -1
    rows: list[Row] = field(default_factory=list)

    def add(self, value: float, row: Row) -> None:
        if value > self.most:
            self.most, self.rows = value, []
        if value == self.most:
            self.rows.append(row)


def query5(flow: Flow, source: Stage[Any]) -> None:
    """The auctions with most bids in the last ten seconds, every two seconds.

    How many bids an auction has had is counted where the auction is at home; which has most is found where
    the window is, in the two seconds in which it ends.
    """

    def count(bids: State[int], bid: Row) -> None:
        bids.value += 1

    def counted(bids: State[int], window: Window) -> Row:
        return {"window": window.start, "auction": int(window.key), "bids": bids.value}

    counts = flow.stage(
        count,
        name="q5_counts",
        after=source,
        when=is_bid,
        key="auction",
        state=int,
        window=Hopping(10, every=2),
        on_close=counted,
    )

    def compare(best: Best, row: Row) -> None:
        best.add(row["bids"], row)

    def hottest(best: Best, window: Window) -> Iterator[Row]:
        yield from best.rows

    hot = flow.stage(
        compare, name="q5", after=counts, key="window", state=Best, window=Tumbling(2), on_close=hottest
    )
    flow.sink("q5_out", after=hot, topic="nexmark-q5")


def query7(flow: Flow, source: Stage[Any]) -> None:
    """The highest bids of each ten seconds: those of each auction first, then those of all."""

    def bid(best: Best, bid: Row) -> None:
        best.add(bid["price"], bid)

    def highest_here(best: Best, window: Window) -> Iterator[Row]:
        yield from ({"window": window.start, **row} for row in best.rows)

    here = flow.stage(
        bid,
        name="q7_auctions",
        after=source,
        when=is_bid,
        key="auction",
        state=Best,
        window=Tumbling(10),
        on_close=highest_here,
    )

    def highest(best: Best, window: Window) -> Iterator[Row]:
        yield from best.rows

    of_all = flow.stage(
        bid, name="q7", after=here, key="window", state=Best, window=Tumbling(10), on_close=highest
    )
    flow.sink("q7_out", after=of_all, topic="nexmark-q7")


# ---- 8: who has begun to sell as soon as he came


@dataclass
class Newcomer:
    name: str | None = None
    sells: bool = False


def query8(flow: Flow, source: Stage[Any]) -> None:
    """People who sell within the same ten seconds in which they have joined."""

    def arrive(newcomer: Newcomer, event: Row) -> None:
        if event["kind"] == "person":
            newcomer.name = event["name"]
        else:
            newcomer.sells = True

    def sells(newcomer: Newcomer, window: Window) -> Row | None:
        if newcomer.name is None or not newcomer.sells:
            return None
        return {"id": int(window.key), "name": newcomer.name, "window": window.start}

    joined = flow.stage(
        arrive,
        name="q8",
        after=source,
        when=of_people,
        key=person_id,
        state=Newcomer,
        window=Tumbling(10),
        on_close=sells,
    )
    flow.sink("q8_out", after=joined, topic="nexmark-q8")


# ---- the flows

QUERIES: dict[str, Callable[[Flow, Stage[Any]], None]] = {
    f"q{n}": query
    for n, query in enumerate((query0, query1, query2, query3, query4, query5, query6, query7, query8))
}


def flow_of(name: str, *queries: str) -> Flow:
    """A flow that answers these queries about one auction house."""
    made = Flow(name, partitions=4)
    source = made.source(auction_house, name="house", state=int)
    for query in queries:
        QUERIES[query](made, source)
    return made


q0, q1, q2, q3, q4, q5, q6, q7, q8 = (flow_of(f"nexmark-{name}", name) for name in QUERIES)
flow = flow_of("nexmark", *QUERIES)
