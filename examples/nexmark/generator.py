"""The events of an auction house, as Nexmark describes them: people, auctions and bids in turn.

Of each 50 events one is a new person, three are auctions and the rest bids. Event number i is always the
same, so a source may begin anywhere: its position is the number of the next event.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

BEGIN = 1_700_000_000_000
"""Time of the first event, epoch ms."""
RATE = 100
"""Events per second of event time."""
FIRST_PERSON = FIRST_AUCTION = 1_000
FIRST_CATEGORY, CATEGORIES = 10, 5

OF_50, PEOPLE, AUCTIONS = 50, 1, 3
ACTIVE_PEOPLE, OPEN_AUCTIONS, LEAD = 1_000, 100, 10
HORIZON = 1_000 * OPEN_AUCTIONS * OF_50 // AUCTIONS // RATE
"""Milliseconds in which so many auctions as are open at once begin."""

FIRST_NAMES = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"]
LAST_NAMES = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"]
CITIES = ["Phoenix", "Los Angeles", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"]
STATES = ["AZ", "CA", "ID", "OR", "WA", "WY"]
CHANNELS = ["Google", "Facebook", "Baidu", "Apple"]


def events(count: int, first: int = 0, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Events number `first` to `count` - 1."""
    return (event(number, seed) for number in range(first, count))


def event(number: int, seed: int = 0) -> dict[str, Any]:
    """One event: a dict whose ``kind`` says what it is, with ``time`` in epoch ms."""
    random = Random(f"{seed}/{number}")
    place = number % OF_50
    make = _person if place < PEOPLE else _auction if place < PEOPLE + AUCTIONS else _bid
    return {"time": BEGIN + number * 1_000 // RATE, **make(number, random)}


def _person(number: int, random: Random) -> dict[str, Any]:
    return {
        "kind": "person",
        "id": FIRST_PERSON + _last_person(number),
        "name": f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}",
        "city": random.choice(CITIES),
        "state": random.choice(STATES),
    }


def _auction(number: int, random: Random) -> dict[str, Any]:
    last = _last_person(number)
    hot = random.randrange(4) > 0
    price = _price(random)
    return {
        "kind": "auction",
        "id": FIRST_AUCTION + _last_auction(number),
        "seller": FIRST_PERSON + (last // 100 * 100 if hot else _near(last, ACTIVE_PEOPLE, random)),
        "category": FIRST_CATEGORY + random.randrange(CATEGORIES),
        "initial_bid": price,
        "reserve": price + _price(random),
        "expires": BEGIN + number * 1_000 // RATE + 1 + random.randrange(2 * HORIZON),
    }


def _bid(number: int, random: Random) -> dict[str, Any]:
    auction, person = _last_auction(number), _last_person(number)
    hot, regular = random.randrange(2) > 0, random.randrange(4) > 0
    bidder = person // 100 * 100 + 1 if regular else _near(person, ACTIVE_PEOPLE, random)
    return {
        "kind": "bid",
        "auction": FIRST_AUCTION + (auction // 100 * 100 if hot else _near(auction, OPEN_AUCTIONS, random)),
        "bidder": FIRST_PERSON + bidder,
        "price": _price(random),
        "channel": random.choice(CHANNELS),
    }


def _last_person(number: int) -> int:
    return number // OF_50


def _last_auction(number: int) -> int:
    """The newest auction when an event comes."""
    epoch, place = divmod(number, OF_50)
    if place < PEOPLE:
        return max(epoch * AUCTIONS - 1, 0)
    return epoch * AUCTIONS + min(place - PEOPLE, AUCTIONS - 1)


def _near(last: int, span: int, random: Random) -> int:
    """One of the newest, or of those that come next."""
    first = max(last - span, 0)
    return random.randrange(first, last + LEAD + 1)


def _price(random: Random) -> int:
    return round(10 ** (random.random() * 6) * 100)
