"""How a flow's lanes are divided among the members of its group: pure, no clock, no I/O.

Each time the group comes together every member sends a `Claim`, the leader turns all claims into one `Award`
per member (`divide`), and each member brings its `Holding` into line with its award. The rules:

* Claims are the truth. A lane that somebody claims is given to nobody else: a lane that must move is first
  left out of every award, and given once its owner no longer claims it.
* Of two claims for one lane the one received under the higher epoch wins. So a process that was stopped,
  replaced and then wakes up loses against its successor, whatever it still believes.
* Only members with the newest plan are given lanes; what others claim they are to release.
* Apart from that lanes stay where they are, and no two members differ by more than one lane; with standbys
  that is put off until who is to get a lane has its state (`dealing`).
"""

from __future__ import annotations

from collections.abc import Mapping

from reflow_kafka.log.kafka.claim import Award, Claim
from reflow_kafka.log.kafka.dealing import Deal, deal


def divide(claims: Mapping[str, Claim | None], *, run: str, floor: int = 0) -> dict[str, Award]:
    """Turn all claims (by member id; None = unintelligible) into one award per member.

    Args:
        claims: of all members of the group.
        run: id for a new run, used if no member knows of one.
        floor: lowest epoch to use. With the time of day here a group that starts afresh, its members knowing
            nothing, still ranks above whatever a forgotten process remembers.
    """
    known = {member: claim for member, claim in claims.items() if claim is not None}
    if not known:
        return {member: Award(protocol=1, epoch=floor, run=run) for member in claims}
    newest = max(known.values(), key=lambda claim: (claim.started, claim.plan))
    highest = max(
        max((claim.seen, *claim.held.values(), *claim.leaving.values())) for claim in known.values()
    )
    eldest = max(known.values(), key=lambda claim: (bool(claim.run), claim.seen, claim.run))
    run = eldest.run or run
    # Only this run's members can end it; a straggler of an earlier run has no say.
    ended = any(claim.ended and claim.run == run for claim in known.values())
    dealt = Deal({}, {}, {}, 0) if ended else deal(known, newest.plan, newest.lanes)
    return {
        member: Award(
            protocol=1,
            epoch=max(highest + 1, floor),
            lanes=tuple(sorted(dealt.lanes.get(member, ()))),
            moving=dealt.moving,
            plan=newest.plan,
            answers=claim.plan if claim is not None else "",
            run=run,
            ended=ended,
            copies=tuple(sorted(dealt.copies.get(member, ()))),
            awaited=tuple(sorted(dealt.awaited.get(member, ()))),
        )
        for member, claim in claims.items()
    }
