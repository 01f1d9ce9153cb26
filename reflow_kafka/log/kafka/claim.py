"""What members of a group tell its leader, and what it answers: pure, and strict about what is read.

Both travel as the group protocol's user data. Later versions may add fields, each with a default: engines of
two versions then form one group, as they do while a deployment is under way.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from reflow_kafka.log.api import MAX_STANDBYS

# Bounds, so that one member's nonsense cannot make the leader count to the moon.
_Lane = Annotated[int, msgspec.Meta(ge=0, lt=100_000)]
_Epoch = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_Lag = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

COLD: Final = 2**53
"""Lag of local state of which nobody knows how far behind it is."""
WARM: Final = 10_000
"""Records by which a copy may be behind and still take over at once."""


class Claim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member says about itself. Lanes map to the epoch under which they were received."""

    protocol: Literal[1]
    plan: str
    started: int  # epoch ms at which the plan was started there: the largest is the newest plan
    lanes: Annotated[int, msgspec.Meta(ge=1, le=100_000)]  # how many the flow has, as this member knows it
    held: dict[_Lane, _Epoch] = {}
    leaving: dict[_Lane, _Epoch] = {}  # no longer to be run, but their work has not stopped yet
    seen: _Epoch = 0  # epoch of the last award
    run: str = ""
    ended: bool = False
    asked: int = 0  # how often this member asked for a new division: a broker ignores an unchanged claim
    instance: str | None = None
    host: str = ""
    standbys: Annotated[int, msgspec.Meta(ge=0, le=MAX_STANDBYS)] = 0  # copies wanted of each lane
    copies: dict[_Lane, _Lag] = {}  # lanes of others with state here, and how many records it is behind
    ready: tuple[_Lane, ...] = ()  # copies that need no longer be waited for


class Award(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the leader gives to one member."""

    protocol: Literal[1]
    epoch: _Epoch
    lanes: tuple[_Lane, ...] = ()
    moving: int = 0  # lanes that go nowhere until somebody has released them
    plan: str = ""  # the plan that rules
    answers: str = ""  # the plan of the claim that this answers
    run: str = ""
    ended: bool = False
    copies: tuple[_Lane, ...] = ()  # lanes of others to keep a copy of
    awaited: tuple[_Lane, ...] = ()  # those on which a move waits until they are ready


_claims = msgspec.json.Decoder(Claim)
_awards = msgspec.json.Decoder(Award)


def encode(message: Claim | Award) -> bytes:
    """The bytes that travel through the group protocol."""
    # `protocol` has no default and is therefore always written.
    return msgspec.json.encode(message)


def decode_claim(data: bytes | None) -> Claim | None:
    """A member's claim, or None if it speaks another language: such a member owns nothing."""
    try:
        return _claims.decode(data or b"")
    except (msgspec.DecodeError, ValueError):
        return None


def decode_award(data: bytes | None) -> Award | None:
    """This member's award, or None if the leader speaks another language."""
    try:
        return _awards.decode(data or b"")
    except (msgspec.DecodeError, ValueError):
        return None
