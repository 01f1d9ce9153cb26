"""The division of lanes, alone and in simulated groups whose members come, go, die and wake up again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reflow_kafka.log.api import MAX_STANDBYS, MemberOptions
from reflow_kafka.log.kafka.assignor import divide
from reflow_kafka.log.kafka.claim import COLD, Award, Claim, decode_award, decode_claim, encode
from reflow_kafka.log.kafka.holding import Holding


def claim(
    held: Mapping[int, int] | None = None,
    *,
    leaving: Mapping[int, int] | None = None,
    plan: str = "p",
    started: int = 1,
    lanes: int = 8,
    seen: int = 0,
    run: str = "",
    ended: bool = False,
    standbys: int = 0,
    copies: Mapping[int, int] | None = None,
    ready: Iterable[int] = (),
    host: str = "",
) -> Claim:
    return Claim(
        protocol=1,
        plan=plan,
        started=started,
        lanes=lanes,
        held=dict(held or {}),
        leaving=dict(leaving or {}),
        seen=seen,
        run=run,
        ended=ended,
        standbys=standbys,
        copies=dict(copies or {}),
        ready=tuple(ready),
        host=host,
    )


def all_of(epoch: int, *lanes: int) -> dict[int, int]:
    return dict.fromkeys(lanes, epoch)


# --- one division


def test_first_member_gets_all() -> None:
    awards = divide({"a": claim()}, run="fresh", floor=100)
    expected = Award(protocol=1, epoch=100, lanes=tuple(range(8)), plan="p", answers="p", run="fresh")
    assert awards == {"a": expected}


def test_a_lane_with_an_owner_is_first_left_out() -> None:
    awards = divide({"a": claim(all_of(3, *range(8)), seen=3), "b": claim()}, run="r")
    assert awards["a"].lanes == (0, 1, 2, 3)
    assert awards["b"].lanes == ()
    assert awards["a"].moving == awards["b"].moving == 4
    assert awards["a"].epoch == 4
    # One lane released, three not yet.
    later = {"a": claim(all_of(3, 0, 1, 2, 3), leaving=all_of(3, 4, 5, 6)), "b": claim()}
    awards = divide(later, run="r")
    assert awards["a"].lanes == (0, 1, 2, 3)
    assert awards["b"].lanes == (7,)
    assert awards["b"].moving == 3


def test_a_claim_is_intelligible_whatever_there_is_of_other_flows_lanes() -> None:
    kept = frozenset({1, 2, 100_000})
    options = MemberOptions(flow="f", lanes=2, plan="p", started=1, standbys=MAX_STANDBYS, kept=kept)
    claim = Holding(options).claim()
    assert claim.copies == {1: COLD}
    assert decode_claim(encode(claim)) == claim


def test_the_higher_epoch_wins_whoever_claims_it() -> None:
    claims = {"zombie": claim(all_of(5, 0, 1), lanes=2), "owner": claim(all_of(9, 0, 1), lanes=2, seen=9)}
    awards = divide(claims, run="r")
    # The owner keeps one, the other has to be released by it first: the zombie's own claim is worth nothing.
    assert awards["owner"].lanes == (0,)
    assert awards["zombie"].lanes == ()
    assert awards["zombie"].moving == 1


def test_equal_epochs_are_decided_by_member_id() -> None:
    claims = {"a": claim({0: 5}, lanes=1), "b": claim({0: 5}, lanes=1)}
    assert {member: award.lanes for member, award in divide(claims, run="r").items()} == {"a": (), "b": (0,)}


def test_an_old_plan_has_to_release_everything_and_blocks_until_then() -> None:
    old = claim(all_of(2, 0, 1, 2, 3), plan="old", started=1, lanes=4)
    new = claim(plan="new", started=2, lanes=6)
    awards = divide({"a": old, "b": new}, run="r")
    assert awards["a"].lanes == ()
    assert awards["b"].lanes == (4, 5)
    assert awards["b"].moving == 4
    assert awards["a"].plan == "new"
    gone = claim(plan="old", started=1, lanes=4)
    assert divide({"a": gone, "b": new}, run="r")["b"].lanes == tuple(range(6))


def test_equally_old_plans_are_decided_by_hash() -> None:
    awards = divide({"a": claim(plan="x"), "b": claim(plan="y")}, run="r")
    assert awards["a"].lanes == ()
    assert len(awards["b"].lanes) == 8


def test_lanes_that_the_newest_plan_does_not_have_are_given_up() -> None:
    old = claim(all_of(1, 0, 1, 2, 3), plan="old", lanes=4)
    awards = divide({"a": old, "b": claim(plan="new", started=2, lanes=2)}, run="r")
    assert awards["b"].moving == 2


def test_the_run_of_the_most_advanced_member_is_kept() -> None:
    claims = {"a": claim(seen=4, run="old"), "b": claim(seen=7, run="current"), "c": claim(seen=9)}
    assert {award.run for award in divide(claims, run="new").values()} == {"current"}


def test_an_ended_run_gives_no_lane_to_anybody() -> None:
    claims = {"a": claim(all_of(2, 0, 1), seen=2, run="r", ended=True), "b": claim()}
    awards = divide(claims, run="new")
    assert [(award.lanes, award.moving, award.ended) for award in awards.values()] == [((), 0, True)] * 2


def test_a_straggler_of_an_earlier_run_cannot_end_this_one() -> None:
    claims = {"a": claim(seen=2, run="old", ended=True), "b": claim(seen=3, run="r")}
    assert not any(award.ended for award in divide(claims, run="new").values())


@pytest.mark.parametrize(
    "data",
    [None, b"", b"\xff\x00", b"[]", b"{}", b"null", b'{"protocol":2,"plan":"p","started":1,"lanes":1}']
    + [encode(claim()).replace(b'"lanes":8', each) for each in (b'"lanes":0', b'"lanes":1e9', b'"lanes":"8"')]
    + [
        encode(claim({1: 1})).replace(b'"1":1', each) for each in (b'"-1":1', b'"x":1', b'"1":-1', b'"1":1.5')
    ],
)
def test_who_speaks_another_language_owns_nothing(data: bytes | None) -> None:
    assert decode_claim(data) is None
    assert decode_award(data) is None
    awards = divide({"foreign": decode_claim(data), "a": claim()}, run="r")
    assert awards["foreign"].lanes == ()
    assert len(awards["a"].lanes) == 8


def test_a_group_of_foreigners_is_given_nothing() -> None:
    assert divide({"x": None}, run="r")["x"].lanes == ()
    assert divide({}, run="r") == {}


def test_a_later_version_may_add_fields() -> None:
    data = encode(claim({3: 4}, run="r"))
    assert decode_claim(data[:-1] + b',"more":[1]}') == claim({3: 4}, run="r")


@given(st.binary())
def test_any_bytes_can_be_decoded(data: bytes) -> None:
    decode_claim(data)
    decode_award(data)


lane_epochs = st.dictionaries(st.integers(0, 9), st.integers(0, 9), max_size=8)
any_claims = st.dictionaries(
    st.sampled_from("abcdef"),
    st.none()
    | st.builds(
        claim,
        lane_epochs,
        leaving=lane_epochs,
        plan=st.sampled_from(["x", "y"]),
        started=st.integers(0, 2),
        lanes=st.integers(1, 8),
        seen=st.integers(0, 9),
        run=st.sampled_from(["", "r", "s"]),
        ended=st.sampled_from([False, False, False, True]),
        standbys=st.integers(0, 2),
        copies=lane_epochs,
        ready=st.sets(st.integers(0, 9)),
        host=st.sampled_from(["", "x", "y"]),
    ),
)


@given(any_claims)
@settings(max_examples=1000)
def test_whatever_is_claimed_no_lane_is_given_twice_or_against_a_better_claim(
    claims: dict[str, Claim | None],
) -> None:
    awards = divide(claims, run="new", floor=5)
    assert awards.keys() == claims.keys()
    given_to: dict[int, str] = {}
    for member, award in awards.items():
        assert decode_award(encode(award)) == award
        for lane in award.lanes:
            assert lane not in given_to
            given_to[lane] = member
        claimed = claims[member]
        mine = {*claimed.held, *claimed.leaving} if claimed else set()
        assert not set(award.copies) & {*award.lanes, *mine}
        assert set(award.awaited) <= set(award.copies)
    known = {member: each for member, each in claims.items() if each is not None}
    for member, each in known.items():
        assert decode_claim(encode(each)) == each
        for lane, epoch in (each.leaving | each.held).items():
            taker = given_to.get(lane)
            if taker is not None and taker != member:
                mine = (known[taker].leaving | known[taker].held).get(lane)
                assert mine is not None
                assert (mine, taker) > (epoch, member)
    for lane, taker in given_to.items():
        newest = max((each.started, each.plan) for each in known.values())
        assert known[taker].plan == newest[1], lane
    highest = max(
        (max([each.seen, *each.held.values(), *each.leaving.values()]) for each in known.values()), default=0
    )
    assert all(award.epoch > highest or not known for award in awards.values())


# --- standbys


def test_a_lane_without_owner_goes_to_the_copy_that_is_least_behind() -> None:
    owner = claim(all_of(3, 0), lanes=4, standbys=1)
    far = claim(lanes=4, standbys=1, copies={1: 90_000, 2: 500_000, 3: COLD})
    near = claim(lanes=4, standbys=1, copies={1: 5, 2: 400_000}, ready=[1])
    awards = divide({"a": owner, "b": far, "c": near}, run="r")
    assert awards["c"].lanes == (1, 2)
    assert awards["b"].lanes == (3,), "there is something left of it"


def test_everything_goes_to_the_only_one_that_has_it() -> None:
    left = claim(lanes=8, standbys=1, copies=dict.fromkeys(range(8), 0), ready=range(8))
    awards = divide({"a": claim(lanes=8, standbys=1), "b": left}, run="r")
    assert awards["b"].lanes == tuple(range(8))
    assert awards["a"].copies == tuple(range(8))


def test_a_newcomer_gets_copies_first_and_lanes_when_they_are_ready() -> None:
    owner = claim(all_of(3, 0, 1, 2, 3), lanes=4, standbys=1)
    awards = divide({"a": owner, "b": claim(lanes=4, standbys=1)}, run="r")
    assert awards["a"].lanes == (0, 1, 2, 3)
    assert awards["b"].lanes == ()
    assert awards["b"].copies == (0, 1, 2, 3)
    assert awards["b"].awaited == (2, 3)
    assert awards["a"].moving == 0
    # One of those that are waited for is ready, and one that is not: whatever is ready may go.
    some = claim(lanes=4, standbys=1, copies={0: 0, 1: 10**6, 2: 7, 3: 10**6}, ready=[0, 2])
    awards = divide({"a": owner, "b": some}, run="r")
    assert awards["a"].lanes == (1, 3)
    assert awards["b"].lanes == ()
    assert set(awards["b"].copies) == {0, 1, 2, 3}, "what comes is kept up to date until it is there"
    released = claim(all_of(3, 1, 3), lanes=4, standbys=1, copies={0: COLD, 2: COLD})
    awards = divide({"a": released, "b": some}, run="r")
    assert awards["b"].lanes == (0, 2)
    assert awards["a"].copies == (0, 2)
    assert awards["b"].copies == (1, 3)


def test_a_copy_is_kept_until_the_one_that_takes_its_place_is_ready() -> None:
    owner = claim(all_of(3, 0), lanes=1, standbys=1, host="x")
    near = claim(lanes=1, standbys=1, host="x", copies={0: 0}, ready=[0])
    awards = divide({"a": owner, "b": near, "c": claim(lanes=1, standbys=1, host="y")}, run="r")
    assert awards["b"].copies == awards["c"].copies == awards["c"].awaited == (0,)
    assert awards["b"].awaited == ()
    far = claim(lanes=1, standbys=1, host="y", copies={0: 0}, ready=[0])
    awards = divide({"a": owner, "b": near, "c": far}, run="r")
    assert awards["b"].copies == ()
    assert awards["c"].copies == (0,)


def test_the_largest_wish_for_copies_counts() -> None:
    claims = {name: claim(all_of(3, n), lanes=4, standbys=n) for n, name in enumerate("abc")}
    awards = divide({**claims, "d": claim(all_of(3, 3), lanes=4)}, run="r")
    assert sum(len(award.copies) for award in awards.values()) == 4 * 2
    assert max(len(award.copies) for award in awards.values()) <= 3


def test_without_standbys_nothing_is_copied_or_waited_for() -> None:
    awards = divide({"a": claim(all_of(3, 0, 1), lanes=2), "b": claim(lanes=2)}, run="r")
    assert awards["a"].lanes == (0,)
    assert not any(award.copies or award.awaited for award in awards.values())


def test_a_lane_comes_back_where_there_is_still_something_of_it() -> None:
    awards = divide({"a": claim(lanes=2, copies={1: COLD}), "b": claim(lanes=2)}, run="r")
    assert awards["a"].lanes == (1,)


# --- groups


class Member:
    """A process as the group sees it: it may be stopped, and may have missed what it was given."""

    def __init__(self, name: str, plan: str, started: int, lanes: int, standbys: int, host: str) -> None:
        self.name = name
        kept = frozenset(range(0, lanes, 3))
        self._options = MemberOptions(
            "flow", lanes, plan, started, instance=name, standbys=standbys, kept=kept
        )
        self._host = host
        self.start()

    def start(self) -> None:
        self.holding = Holding(self._options, self._host)
        self.unaware = False  # was stopped, and still believes what it believed then


LANES = {"p0": 5, "p1": 8, "p2": 3}


class Group(RuleBasedStateMachine):
    """Joins, leaves, kills, zombies, new plans, late releases and awards that do not arrive, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, Member] = {}
        self.stopped: dict[str, Member] = {}
        self.names = itertools.count()
        self.clock = 0
        self.plan = "p0"
        self.standbys = 0
        self.awards: dict[str, Award] = {}  # what the broker has for each member
        self.disturbed = True  # the broker will call the group together

    @initialize(standbys=st.sampled_from([0, 0, 1, 2]))
    def begin(self, standbys: int) -> None:
        self.standbys = standbys
        self.join(newest=True, modest=False, host="")
        self.rebalance(lost=0)

    @rule(newest=st.booleans(), modest=st.booleans(), host=st.sampled_from(["", "x", "y"]))
    def join(self, newest: bool, modest: bool, host: str) -> None:
        if len(self.live) >= 6:
            return
        self.clock += 1
        self.disturbed = True
        number = next(self.names)
        # An engine with an old plan announces the time at which that plan was first started.
        started = list(LANES).index(self.plan if newest else "p0")
        plan = list(LANES)[started]
        standbys = 0 if modest else self.standbys
        member = Member(f"m{number:02}", plan, started, LANES[plan], standbys, host)
        self.live[member.name] = member

    @precondition(lambda self: len(self.live) > 1)
    @rule(data=st.data())
    def leave_or_die(self, data: st.DataObject) -> None:
        del self.live[data.draw(st.sampled_from(sorted(self.live)))]
        self.disturbed = True

    @precondition(lambda self: self.live)
    @rule(data=st.data(), amid_a_move=st.booleans())
    def restart(self, data: st.DataObject, amid_a_move: bool) -> None:
        """A static member dies and is back at once: the broker gives it what it had, and tells nobody."""
        if amid_a_move:
            self.join(newest=True, modest=False, host="")
        if amid_a_move or self.disturbed:
            self.rebalance(lost=0)
        name = data.draw(st.sampled_from(sorted(self.live)))
        member = self.live[name]
        member.start()
        member.holding.claim()
        member.holding.awarded(self.awards[name], self.clock)
        event("restart while lanes move" if self.awards[name].moving else "restart")

    @precondition(lambda self: len(self.live) > 1)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.live)))
        self.stopped[name] = self.live.pop(name)
        self.disturbed = True

    @precondition(lambda self: self.stopped)
    @rule(data=st.data(), unaware=st.booleans())
    def wake_up(self, data: st.DataObject, unaware: bool) -> None:
        """A zombie comes back and claims what it still runs; it may not even know that it was away."""
        name = data.draw(st.sampled_from(sorted(self.stopped)))
        member = self.live[name] = self.stopped.pop(name)
        member.unaware = unaware
        self.disturbed = True
        if not unaware:
            member.holding.lost(self.clock)
        event("unaware zombie" if unaware else "zombie")

    @precondition(lambda self: self.plan != "p2")
    @rule()
    def new_plan(self) -> None:
        self.plan = "p1" if self.plan == "p0" else "p2"
        self.join(newest=True, modest=False, host="")
        event("new plan")

    @rule(lag=st.sampled_from([0, 5_000, 20_000, 10**6]), data=st.data())
    def copies_get_somewhere(self, lag: int, data: st.DataObject) -> None:
        for member in self.live.values():
            for lane in sorted(member.holding.standbys):
                if data.draw(st.booleans()):
                    member.holding.lags({lane: lag})

    @rule(data=st.data())
    def release_some(self, data: st.DataObject) -> None:
        for member in self.live.values():
            for lane in sorted(member.holding.leaving):
                if data.draw(st.booleans()):
                    member.holding.released(lane)

    @rule(lost=st.integers(0, 7))
    def rebalance(self, lost: int) -> None:
        """All that live come together; awards of those in the bit mask `lost` do not arrive."""
        self.clock += 1
        before = {name: dict(member.holding.held) for name, member in self.live.items()}
        claims = {name: decode_claim(encode(each.holding.claim())) for name, each in self.live.items()}
        awards = divide(claims, run=f"run-{self.clock}", floor=self.clock)
        taken = [lane for award in awards.values() for lane in award.lanes]
        assert len(taken) == len(set(taken))
        for name, award in awards.items():
            mine = claims[name]
            assert mine is not None
            assert not set(award.copies) & {*award.lanes, *mine.held, *mine.leaving}
            assert set(award.awaited) <= set(award.copies)
            assert any(each and each.standbys for each in claims.values()) or not award.copies
        for name, award in awards.items():
            for other, theirs in claims.items():
                if other != name and theirs is not None:
                    mine = before[name]
                    for lane in set(award.lanes) & (theirs.held.keys() | theirs.leaving.keys()):
                        epoch = (theirs.leaving | theirs.held)[lane]
                        own = mine.get(lane) or dict(claims[name].leaving).get(lane, -1)  # type: ignore[union-attr]
                        assert own > epoch
        self.awards, self.disturbed = awards, bool(lost & (1 << len(awards)) - 1)
        for number, (name, award) in enumerate(awards.items()):
            if not lost >> number & 1:
                self.live[name].holding.awarded(award, self.clock)
                self.live[name].unaware = False
                kept = self.live[name].holding.held
                assert all(kept[lane] == epoch for lane, epoch in before[name].items() if lane in kept)

    @invariant()
    def no_lane_is_held_by_two_that_live(self) -> None:
        aware = [member.holding for member in self.live.values() if not member.unaware]
        held = [lane for each in aware for lane in each.held]
        assert len(held) == len(set(held))

    @invariant()
    def nobody_copies_what_it_owns(self) -> None:
        for member in self.live.values():
            holding = member.holding
            assert not holding.standbys & (holding.held.keys() | holding.leaving)

    @precondition(lambda self: self.live)
    @rule()
    def left_alone(self) -> None:
        """Whoever is in the way of the group's being complete asks for it to come together."""
        for _ in range(20):
            self.clock += 20
            for member in self.live.values():
                for lane in member.holding.leaving:
                    member.holding.released(lane)
                member.holding.lags(dict.fromkeys(member.holding.standbys, 0))
            asked = [member.holding.ask(self.clock) for member in self.live.values()]
            if not self.disturbed and not any(asked):
                break
            self.rebalance(lost=0)
        newest = max(each.holding.plan for each in self.live.values())
        held = sorted(lane for each in self.live.values() for lane in each.holding.held)
        assert held == list(range(LANES[newest]))

    @precondition(lambda self: self.live)
    @rule()
    def quiet(self) -> None:
        """Left alone, the group is complete and balanced after a few rounds, and then nothing moves."""
        for _ in range(8 if self.standbys else 3):
            for member in self.live.values():
                for lane in member.holding.leaving:
                    member.holding.released(lane)
                member.holding.lags(dict.fromkeys(member.holding.standbys, 0))
            self.rebalance(lost=0)
        newest = max(self.live.values(), key=lambda each: each.holding.plan).holding.plan
        eligible = [each.holding for each in self.live.values() if each.holding.plan == newest]
        counts = [len(each.held) for each in eligible]
        held = sorted(lane for each in eligible for lane in each.held)
        assert held == list(range(LANES[newest]))
        assert max(counts) - min(counts) <= 1
        assert not any(each.holding.leaving or each.holding.must_ask for each in self.live.values())
        assert len({each.holding.run for each in self.live.values()}) == 1
        before = {name: (dict(each.holding.held), each.holding.standbys) for name, each in self.live.items()}
        self.assert_copied(eligible)
        self.rebalance(lost=0)
        assert before == {
            name: (each.holding.held, each.holding.standbys) for name, each in self.live.items()
        }

    def assert_copied(self, members: list[Holding]) -> None:
        """Each lane is copied as often as it can be, evenly, and nobody waits for anything."""
        wanted = max(each.claim().standbys for each in members)
        for lane in range(LANES[members[0].plan]):
            owner = next(each for each in members if lane in each.held)
            may = [each for each in members if each is not owner]
            copies = [each for each in may if lane in each.standbys]
            assert len(copies) == min(wanted, len(may))
            far = {each.claim().host for each in may} - {owner.claim().host, ""}
            if far and copies:
                assert any(each.claim().host in far or not each.claim().host for each in copies)
        assert not any(each.award.awaited for each in members if each.award)
        if len({each.claim().host for each in members}) == 1:
            limit = -(-LANES[members[0].plan] * wanted // len(members))
            assert max(len(each.standbys) for each in members) <= 2 * limit  # what is there stays there


TestGroup = Group.TestCase
TestGroup.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def settled(members: dict[str, Holding], rounds: int = 2) -> None:
    for now in range(rounds):
        awards = divide({name: each.claim() for name, each in members.items()}, run="r")
        for name, award in awards.items():
            members[name].awarded(award, now)
        for each in members.values():
            for lane in each.leaving:
                each.released(lane)
    awards = divide({name: each.claim() for name, each in members.items()}, run="r")
    for name, award in awards.items():
        members[name].awarded(award, rounds)


def holding(lanes: int, plan: str = "p", started: int = 1) -> Holding:
    return Holding(MemberOptions("flow", lanes, plan, started))


@given(lanes=st.integers(1, 40), members=st.integers(1, 9), leaver=st.integers(0, 8))
def test_only_what_must_move_moves(lanes: int, members: int, leaver: int) -> None:
    group = {f"m{n}": holding(lanes) for n in range(members)}
    settled(group)
    before = {name: set(each.held) for name, each in group.items()}
    group["new"] = holding(lanes)
    settled(group)
    moved = sum(len(before[name] - group[name].held.keys()) for name in before)
    assert moved == len(group["new"].held) == lanes // (members + 1)
    # Nobody was given anything but the newcomer.
    assert all(group[name].held.keys() <= before[name] for name in before)

    before = {name: set(each.held) for name, each in group.items()}
    del group[sorted(group)[leaver % len(group)]]
    settled(group)
    assert all(before[name] <= group[name].held.keys() for name in group)


# --- one member


def award(*lanes: int, epoch: int = 1, moving: int = 0, run: str = "r", **more: object) -> Award:
    fields: dict[str, object] = {"plan": "p", "answers": "p", **more}
    return Award(protocol=1, epoch=epoch, lanes=lanes, moving=moving, run=run, **fields)  # type: ignore[arg-type]


def test_epochs_last_as_long_as_a_lane_is_held() -> None:
    member = holding(4)
    member.awarded(award(0, 1, 2, epoch=5), 0)
    member.awarded(award(0, 1, epoch=6), 0)
    assert member.held == {0: 5, 1: 5}
    assert member.claim().leaving == {2: 5}
    # Back before its work has stopped: it was interrupted all the same.
    member.awarded(award(0, 2, epoch=7), 0)
    member.released(2)
    assert member.held == {0: 5, 2: 7}
    assert member.claim().leaving == {1: 5}


def test_it_asks_for_a_new_division_when_somebody_waits_for_what_it_released() -> None:
    member = holding(4)
    assert not member.must_ask
    member.claim()
    member.awarded(award(0, 1, 2, 3), 0)
    member.claim()
    member.awarded(award(0, 1, epoch=2, moving=2), 0)
    assert not member.must_ask
    member.released(2)
    assert member.must_ask
    first = member.claim()
    assert not member.must_ask
    # The broker takes no notice of a claim that has not changed.
    member.lost(0)
    assert member.ask(0)
    assert encode(member.claim()) != encode(first)


def test_who_is_started_again_asks_for_what_the_process_before_it_would_have_released() -> None:
    """That one held 0 to 3, and died before it had told that 2 and 3 can go to others."""
    given = award(0, 1, epoch=2, moving=2)
    again = Holding(MemberOptions("flow", 4, "p", 1, instance="engine-1"))
    again.claim()
    again.awarded(given, 0)
    assert again.held.keys() == {0, 1}
    assert again.must_ask
    again.claim()
    again.awarded(award(0, 1, epoch=3, moving=1), 1)  # this one knows what there is: others are to release
    assert not again.must_ask


def test_who_is_started_again_after_the_end_of_a_run_asks_for_the_next_one() -> None:
    """The process before it died when its run was over, and before it had left."""
    again = Holding(MemberOptions("flow", 4, "p", 1, instance="engine-1"))
    again.claim()
    again.awarded(award(epoch=2, ended=True), 0)
    assert (again.run, again.ended) == ("", False)
    assert again.must_ask
    again.claim()
    again.awarded(award(0, 1, epoch=3, run="next"), 1)
    assert (again.run, again.must_ask) == ("next", False)


def test_it_asks_once_for_several_lanes_but_does_not_wait_long() -> None:
    member = holding(4)
    member.claim()
    member.awarded(award(0, 1, 2, 3), 0)
    member.claim()
    member.awarded(award(0, epoch=2, moving=3), 0)
    assert not member.ask(0)
    member.released(1)
    assert not member.ask(1.0)
    assert not member.ask(1.4)
    member.released(2)
    assert member.ask(1.5)
    member.claim()
    member.awarded(award(0, epoch=3, moving=1), 1.6)
    member.released(3)
    assert not member.ask(1.6)
    assert member.ask(1.8)


def test_it_does_not_ask_when_nobody_waits() -> None:
    member = holding(4)
    member.claim()
    member.awarded(award(0, 1), 0)
    member.claim()
    member.awarded(award(0, epoch=2, moving=0), 0)
    member.released(1)
    assert not member.must_ask


def test_what_was_lost_is_still_claimed_until_it_is_released() -> None:
    member = holding(4)
    member.claim()
    member.awarded(award(0, 1, epoch=3), 0)
    member.lost(10)
    assert member.held == {}
    assert member.must_ask
    assert member.claim().leaving == {0: 3, 1: 3}
    assert member.overdue(20, 15) == []
    assert member.overdue(26, 15) == [0, 1]
    member.stood_still(5)
    assert member.overdue(26, 15) == []
    assert member.overdue(31, 15) == [0, 1]
    member.awarded(award(0, 1, epoch=9), 30)
    assert member.held == {0: 9, 1: 9}
    assert not member.must_ask


def test_an_award_made_for_the_process_before_this_one_is_not_followed() -> None:
    member = holding(4, plan="new")
    member.claim()
    member.awarded(award(0, 1, answers="p"), 0)
    assert member.held == {}
    assert member.must_ask
    member.awarded(award(0, 1, answers="new"), 0)
    assert len(member.held) == 2
    assert not member.must_ask


def standing_by(*lanes: int, awaited: Iterable[int] = ()) -> Holding:
    member = Holding(MemberOptions("flow", 4, "p", 1, standbys=1))
    member.claim()
    member.awarded(award(0, copies=lanes, awaited=tuple(awaited)), 0)
    return member


def test_it_tells_of_its_copies_and_of_what_is_left_of_others() -> None:
    member = Holding(MemberOptions("flow", 4, "p", 1, standbys=1, kept=frozenset({0, 3})))
    assert member.claim().copies == {0: COLD, 3: COLD}
    member.awarded(award(0, 1, copies=(2,)), 0)
    assert member.standbys == {2}
    member.lags({2: 8, 3: 9})
    assert member.claim().copies == {2: 8, 3: COLD}
    assert member.claim().ready == (2,)
    member.lags({2: None})
    assert member.claim().copies[2] == COLD
    member.lags({2: 8})
    member.awarded(award(0, copies=(1, 3), epoch=2), 0)
    assert member.standbys == {3}, "its work has not stopped yet"
    member.released(1)
    assert member.standbys == {1, 3}
    assert member.claim().copies == {1: COLD, 2: COLD, 3: COLD}


def test_it_asks_for_lanes_when_their_copies_are_ready() -> None:
    member = standing_by(1, 2, 3, awaited=(1, 2))
    member.lags({1: 20_000, 2: 20_000, 3: 0})
    assert not member.ask(1)
    member.lags({1: 10_000})
    assert not member.ask(2), "the other one may be ready soon"
    member.lags({2: 10})
    assert member.ask(3)
    assert member.claim().ready == (1, 2, 3)


def test_it_does_not_wait_long_for_others_or_for_ever_for_one() -> None:
    member = standing_by(1, 2, awaited=(1, 2))
    member.lags({1: 0, 2: 10**6})
    assert not member.ask(9)
    assert member.ask(11)
    member.awarded(award(0, epoch=2, copies=(2,), awaited=(2,)), 12)
    assert not member.ask(599)
    assert member.ask(601), "it cannot keep up: better uneven for a moment than for ever"
    assert member.claim().ready == (2,)


def test_the_end_of_a_run_is_told_once_and_remembered() -> None:
    member = holding(4)
    member.claim()
    member.awarded(award(0), 0)
    member.end_run()
    assert member.must_ask
    assert member.claim().ended
    assert not member.must_ask
    member.awarded(award(epoch=2, ended=True), 0)
    assert not member.must_ask
    other = holding(4)
    other.awarded(award(1), 0)
    other.awarded(award(epoch=2, ended=True), 0)
    other.claim()
    assert other.claim().ended
    assert not other.must_ask


def test_who_comes_after_the_end_waits_for_the_next_run() -> None:
    late = holding(4)
    late.claim()
    late.awarded(award(ended=True), 0)
    assert late.run == ""
    assert not late.claim().ended
    late.awarded(award(0, epoch=2, run="next"), 0)
    assert late.run == "next"
    assert not late.ended
