"""What Nexmark's queries must give, computed in plain Python from the events in their order."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest

Row = dict[str, Any]

WEST = ("OR", "ID", "CA")
SECOND = 1_000


def of_kind(events: Iterable[Row], kind: str) -> list[Row]:
    return [event for event in events if event["kind"] == kind]


def start_of(time: int, size: int) -> int:
    return time // size * size


def query0(events: list[Row]) -> list[Row]:
    return of_kind(events, "bid")


def query1(events: list[Row]) -> list[Row]:
    return [{**bid, "price": 0.908 * bid["price"]} for bid in of_kind(events, "bid")]


def query2(events: list[Row]) -> list[Row]:
    chosen = [bid for bid in of_kind(events, "bid") if bid["auction"] % 123 == 0]
    return [{"auction": bid["auction"], "price": bid["price"]} for bid in chosen]


def query3(events: list[Row]) -> list[Row]:
    people = {person["id"]: person for person in of_kind(events, "person") if person["state"] in WEST}
    return [
        {**{name: people[a["seller"]][name] for name in ("name", "city", "state")}, "auction": a["id"]}
        for a in of_kind(events, "auction")
        if a["category"] == 10 and a["seller"] in people
    ]


def sales(events: list[Row]) -> list[Row]:
    """Auctions that were sold, with the winning price, in the order in which they close."""
    auctions = {auction["id"]: auction for auction in of_kind(events, "auction")}
    best: dict[int, int] = {}
    for bid in of_kind(events, "bid"):
        auction = auctions.get(bid["auction"])
        if auction is not None and auction["time"] <= bid["time"] <= auction["expires"]:
            best[auction["id"]] = max(bid["price"], best.get(auction["id"], -1))
    sold = [{**auctions[id], "price": price} for id, price in best.items()]
    return sorted(sold, key=lambda sale: (sale["expires"], str(sale["id"])))


def query4(events: list[Row]) -> dict[int, float]:
    """The last average of each category; those before it depend on the order among lanes."""
    prices = defaultdict(list)
    for sale in sales(events):
        prices[sale["category"]].append(sale["price"])
    return {category: sum(found) / len(found) for category, found in prices.items()}


def query5(events: list[Row]) -> list[Row]:
    counts: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for bid in of_kind(events, "bid"):
        last = start_of(bid["time"], 2 * SECOND)
        for start in range(last - 8 * SECOND, last + 1, 2 * SECOND):
            counts[start][bid["auction"]] += 1
    return [
        {"window": start, "auction": auction, "bids": count}
        for start, found in counts.items()
        for auction, count in found.items()
        if count == max(found.values())
    ]


def query6(events: list[Row]) -> dict[int, list[float]]:
    """The averages of each seller, in order."""
    prices: dict[int, list[int]] = defaultdict(list)
    found: dict[int, list[float]] = defaultdict(list)
    for sale in sales(events):
        last = prices[sale["seller"]] = [*prices[sale["seller"]], sale["price"]][-10:]
        found[sale["seller"]].append(sum(last) / len(last))
    return dict(found)


def query7(events: list[Row]) -> list[Row]:
    windows = defaultdict(list)
    for bid in of_kind(events, "bid"):
        windows[start_of(bid["time"], 10 * SECOND)].append(bid)
    return [
        {"window": start, **bid}
        for start, bids in windows.items()
        for bid in bids
        if bid["price"] == max(b["price"] for b in bids)
    ]


def query8(events: list[Row]) -> list[Row]:
    sellers = {(start_of(a["time"], 10 * SECOND), a["seller"]) for a in of_kind(events, "auction")}
    return [
        {"id": person["id"], "name": person["name"], "window": start}
        for person in of_kind(events, "person")
        if ((start := start_of(person["time"], 10 * SECOND)), person["id"]) in sellers
    ]


def check(results: Callable[[str], list[Row]], events: list[Row]) -> None:
    """Whether the results of each query (``q0`` …) are what they must be, in whatever order of keys.

    Raises:
        AssertionError: they are not.
    """
    exactly = (query0, query1, query2, query3, query5, query7, query8)
    for query in exactly:
        name = "q" + query.__name__[-1]
        assert _texts(results(name)) == _texts(query(events)), name
    averages = results("q4")
    assert len(averages) == len(sales(events))
    last = {row["category"]: row["average"] for row in averages}
    assert last == {category: pytest.approx(average) for category, average in query4(events).items()}
    by_seller: dict[int, list[float]] = defaultdict(list)
    for row in results("q6"):
        by_seller[row["seller"]].append(row["average"])
    assert by_seller == query6(events)


def _texts(rows: Iterable[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)
