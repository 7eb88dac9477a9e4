"""The decision which host serves: a world of servers that hypothesis changes, and a cluster that only asks them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pymysqlpool._pool.for_clusters import Express
from pymysqlpool._routing.endpoints import Ambiguous, Answer, Ask, Endpoint, State, Target, Use, Wait, agree, spread
from pymysqlpool._routing.topology import LONGEST_DELAY, Topology

NUMBER = 3
TARGETS: tuple[Target, ...] = ("any", "primary", "replica", "prefer-primary", "prefer-replica")


@dataclass
class Server:
    """What is true of a server, whatever the cluster believes."""

    alive: bool = True
    ready: bool = True
    writable: bool = False


def nothing_lent(index: int) -> int:
    return 0


def tell(topology: Topology, index: int, server: Server, now: float, *, galera: bool = False) -> None:
    """The server answers, or cannot."""
    if server.alive:
        topology.answered(index, now, Answer(ready=server.ready, writable=server.writable, multi_primary=galera))
    else:
        topology.failed(index, now, "refused")


def settle(topology: Topology, servers: list[Server], target: Target, now: float, galera: bool = False) -> Any:
    """Decide, and ask as told, until the cluster has made up its mind."""
    for _ in range(100):
        decision = topology.decide(target, now, nothing_lent)
        if isinstance(decision, Ask):
            topology.asking(decision.endpoint)
            tell(topology, decision.endpoint, servers[decision.endpoint], now, galera=galera)
        elif isinstance(decision, Wait) and decision.until < now + 10 * LONGEST_DELAY:
            now = max(now, decision.until)
        else:
            return decision, now
    return decision, now


class Cluster(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.servers = [Server(), Server(), Server()]
        self.asked: set[int] = set()
        self.topology = Topology([Endpoint(f"db{i}") for i in range(NUMBER)], random=lambda: 0.5)

    @initialize(primary=st.integers(0, NUMBER - 1))
    def begin(self, primary: int) -> None:
        self.servers[primary].writable = True

    @rule(index=st.integers(0, NUMBER - 1), alive=st.booleans(), ready=st.booleans(), writable=st.booleans())
    def the_world_changes(self, index: int, alive: bool, ready: bool, writable: bool) -> None:
        self.servers[index] = Server(alive, ready, writable)

    @rule(seconds=st.sampled_from([0.001, 0.04, 0.3, 2.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(wanted=st.sampled_from(TARGETS))
    def a_borrow_is_decided(self, wanted: Target) -> None:
        decision = self.topology.decide(wanted, self.now, nothing_lent)
        endpoints = self.topology.endpoints
        if isinstance(decision, Ask):
            assert decision.endpoint not in self.asked, "two callers ask one endpoint"
            assert endpoints[decision.endpoint].state is not State.DRAINING
            self.topology.asking(decision.endpoint)
            self.asked.add(decision.endpoint)
        elif isinstance(decision, Use):
            for index in decision.endpoints:
                assert endpoints[index].state is State.UP
                if wanted == "primary":
                    assert endpoints[index].writable
                if wanted == "replica":
                    assert not endpoints[index].writable
                assert self.topology.serves(index, wanted)
        elif isinstance(decision, Ambiguous):
            assert wanted == "primary"
            assert all(endpoints[index].writable for index in decision.endpoints)
            assert len(decision.endpoints) > 1

    @rule(index=st.integers(0, NUMBER - 1), gives_up=st.booleans())
    def who_was_sent_to_ask_comes_back(self, index: int, gives_up: bool) -> None:
        if index not in self.asked:
            return
        self.asked.discard(index)
        if gives_up:
            self.topology.not_asked(index)
        else:
            tell(self.topology, index, self.servers[index], self.now)

    @rule(index=st.integers(0, NUMBER - 1))
    def a_statement_finds_it_lost(self, index: int) -> None:
        self.topology.suspect(index, self.now, "2013")

    @rule(index=st.integers(0, NUMBER - 1), age=st.sampled_from([0.0, 0.01, 1.0]))
    def the_monitor_has_checked_it(self, index: int, age: float) -> None:
        endpoint, server = self.topology.endpoints[index], self.servers[index]
        asked_at, told_at, was, asked = self.now - age, endpoint.told_at, endpoint.state, endpoint.asked
        if server.alive:
            answer = Answer(ready=server.ready, writable=server.writable)
            counts = self.topology.observed(index, asked_at, answer)
            assert counts or endpoint.state is was, "an old answer changes nothing"
        else:
            is_out = self.topology.missed(index, asked_at, "silent")
            assert is_out == (endpoint.state in (State.DOWN, State.DRAINING))
        assert endpoint.told_at >= told_at
        assert endpoint.asked is asked, "the attempt under way goes on"

    @rule(index=st.integers(0, NUMBER - 1), back=st.booleans())
    def an_operator_drains(self, index: int, back: bool) -> None:
        (self.topology.undrain if back else self.topology.drain)(index, self.now)

    @invariant()
    def what_is_lent_late_still_fits(self) -> None:
        for index, endpoint in enumerate(self.topology.endpoints):
            for target in TARGETS:
                if self.topology.serves(index, target):
                    assert endpoint.state is State.UP
                    assert endpoint.writable or target != "primary"
                    assert not endpoint.writable or target != "replica"

    @invariant()
    def the_primary_is_up_and_takes_writes(self) -> None:
        primary = self.topology.primary
        if primary is not None:
            endpoint = self.topology.endpoints[primary]
            assert endpoint.state is State.UP
            assert endpoint.writable

    def teardown(self) -> None:
        """When the world stands still the cluster finds the truth."""
        for index in self.asked:
            self.topology.not_asked(index)
        self.now += 2 * LONGEST_DELAY  # so that one that was down is due to be asked
        for index in range(NUMBER):
            self.topology.undrain(index, self.now)
            self.topology.suspect(index, self.now, "look again")
        fit = [i for i, server in enumerate(self.servers) if server.alive and server.ready and server.writable]
        decision, now = settle(self.topology, self.servers, "primary", self.now)
        if len(fit) == 1:
            assert decision == Use((fit[0],))
        elif fit:
            assert isinstance(decision, Ambiguous)
            assert sorted(decision.endpoints) == fit
        else:
            assert isinstance(decision, Ask | Wait)
        # And a reader finds a replica, although nothing tells that there is one now.
        for server in self.servers:
            server.writable = False
        there = {i for i, server in enumerate(self.servers) if server.alive and server.ready}
        decision, _ = settle(self.topology, self.servers, "replica", now + LONGEST_DELAY)
        assert isinstance(decision, Use if there else Ask | Wait)
        assert not there or there >= set(decision.endpoints)


TestCluster = Cluster.TestCase


class Group(RuleBasedStateMachine):
    """A group in which each ready node takes writes. Its nodes are cut off from each other, and an operator may make a
    part of it a group of its own, or start a node without the group."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.part = [1] * NUMBER  # the part that each node belongs to; 0: it is alone, and takes writes
        self.ready = [True] * NUMBER
        self.donor = [False] * NUMBER
        self.topology = Topology([Endpoint(f"db{i}") for i in range(NUMBER)], random=lambda: 0.5, failback_after=10.0)
        for index in range(NUMBER):
            self.tell(index)

    def tell(self, index: int) -> None:
        part = self.part[index]
        if not part:
            answer = Answer(ready=self.ready[index], writable=True)
        else:
            names = {f"db{other}": f"db{other}:3306" for other in range(NUMBER) if self.part[other] == part}
            answer = Answer(
                ready=self.ready[index],
                writable=self.ready[index],
                multi_primary=True,
                donor=self.donor[index],
                own=f"db{index}",
                members=names,
                group="g",
            )
        self.topology.answered(index, self.now, answer)

    @rule(
        index=st.integers(0, NUMBER - 1),
        part=st.sampled_from([1, 1, 1, 2, 0]),
        ready=st.booleans(),
        donor=st.booleans(),
    )
    def a_node_changes(self, index: int, part: int, ready: bool, donor: bool) -> None:
        self.part[index], self.ready[index], self.donor[index] = part, ready, donor

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(index=st.integers(0, NUMBER - 1))
    def a_node_answers(self, index: int) -> None:
        self.tell(index)

    @rule(index=st.integers(0, NUMBER - 1))
    def a_statement_finds_it_lost(self, index: int) -> None:
        self.topology.suspect(index, self.now, "2013")

    @rule(wanted=st.sampled_from(TARGETS))
    def a_borrow_is_decided(self, wanted: Target) -> None:
        decision = self.topology.decide(wanted, self.now, nothing_lent)
        while isinstance(decision, Ask):
            self.tell(decision.endpoint)
            decision = self.topology.decide(wanted, self.now, nothing_lent)
        if wanted == "primary" and isinstance(decision, Use):
            known = [endpoint.answer for endpoint in self.topology.endpoints if endpoint.state is State.UP]
            writable = [answer for answer in known if answer.writable]
            assert all(agree(one, other) for one, other in combinations(writable, 2)), "two groups are written to"
            donor = self.topology.endpoints[decision.endpoints[0]].answer.donor
            assert not donor or all(answer.donor for answer in writable), "a donor is written to beside others"

    def teardown(self) -> None:
        """When the world stands still the cluster finds the truth."""
        for _ in range(20):
            decision = self.topology.decide("primary", self.now, nothing_lent)
            if isinstance(decision, Ask):
                self.topology.asking(decision.endpoint)
                self.tell(decision.endpoint)
            for index in range(NUMBER):
                self.tell(index)
            self.now += 0.1
        ready = [index for index in range(NUMBER) if self.ready[index]]
        parts = [self.part[index] for index in ready]
        if len(set(parts)) > 1 or parts.count(0) > 1:
            assert isinstance(decision, Ask | Ambiguous)
        elif ready:
            assert isinstance(decision, Use)
            assert decision.endpoints[0] in ready
        else:
            assert isinstance(decision, Ask | Wait)


TestGroup = Group.TestCase


def new(number: int = NUMBER, **options: Any) -> Topology:
    return Topology([Endpoint(f"db{i}") for i in range(number)], random=lambda: 0.5, **options)


def test_a_server_is_the_primary_only_after_all_others_were_asked() -> None:
    topology = new()
    topology.answered(1, 1.0, Answer(writable=True))
    assert topology.decide("primary", 1.0, nothing_lent) == Ask(0)
    topology.asking(0)
    topology.asking(2)
    assert isinstance(topology.decide("primary", 1.0, nothing_lent), Wait)


def test_a_switchover_is_followed_and_an_old_answer_does_not_make_two_primaries() -> None:
    servers = [Server(writable=True), Server(), Server()]
    topology = new()
    assert settle(topology, servers, "primary", 1.0)[0] == Use((0,))
    servers[0].writable, servers[1].writable = False, True
    topology.answered(1, 5.0, Answer(writable=True))  # the news of the new one comes first
    assert settle(topology, servers, "primary", 5.0)[0] == Use((1,))


def test_two_servers_that_say_they_are_the_primary_are_an_error_and_never_a_choice() -> None:
    servers = [Server(writable=True), Server(writable=True), Server()]
    topology = new()
    assert settle(topology, servers, "primary", 1.0)[0] == Ambiguous((0, 1))
    servers[1].writable = False  # an operator has mended it, and no connection is lent that could tell
    assert settle(topology, servers, "primary", 2.0)[0] == Use((0,))


def test_a_replica_is_never_lent_as_the_primary_because_none_is_up() -> None:
    servers = [Server(alive=False, writable=True), Server(), Server()]
    topology = new()
    assert not isinstance(settle(topology, servers, "primary", 1.0)[0], Use)
    assert settle(topology, servers, "replica", 2.0)[0] == Use((1, 2))
    assert settle(topology, servers, "prefer-primary", 3.0)[0] == Use((1, 2))


def test_a_galera_node_that_comes_back_is_the_primary_again_only_after_it_has_been_well_for_a_while() -> None:
    servers = [Server(writable=True) for _ in range(NUMBER)]
    topology = new(failback_after=30.0)
    assert settle(topology, servers, "primary", 1.0, galera=True)[0] == Use((0,))
    topology.failed(0, 2.0, "refused")
    for index in (1, 2):
        tell(topology, index, servers[index], 2.0, galera=True)
    assert settle(topology, servers, "primary", 2.0, galera=True)[0] == Use((1,))
    tell(topology, 0, servers[0], 10.0, galera=True)
    assert settle(topology, servers, "primary", 39.0, galera=True)[0] == Use((1,))
    assert settle(topology, servers, "primary", 40.1, galera=True)[0] == Use((0,))


def test_a_writer_asks_a_preferred_galera_node_whether_it_is_back() -> None:
    servers = [Server(writable=True) for _ in range(NUMBER)]
    topology = new(failback_after=30.0)
    settle(topology, servers, "primary", 1.0, galera=True)
    topology.failed(0, 2.0, "refused")
    topology.failed(2, 2.0, "refused")
    tell(topology, 1, servers[1], 2.0, galera=True)
    assert settle(topology, servers, "primary", 2.0, galera=True)[0] == Use((1,))
    assert topology.decide("primary", 5.0, nothing_lent) == Ask(0)
    topology.asking(0)
    assert topology.decide("primary", 5.0, nothing_lent) == Use((1,)), "one caller asks, and none asks those behind"


def test_the_first_galera_node_in_the_list_is_the_primary_whichever_answers_first() -> None:
    """A process with several threads asks all nodes at once. All processes should write to the same node."""
    topology = new()
    for index in range(NUMBER):
        assert topology.decide("primary", 1.0, nothing_lent) == Ask(index)
        topology.asking(index)
    tell(topology, 2, Server(writable=True), 1.0, galera=True)
    assert isinstance(topology.decide("primary", 1.0, nothing_lent), Wait)
    tell(topology, 0, Server(alive=False), 1.1)
    assert isinstance(topology.decide("primary", 1.1, nothing_lent), Wait)
    tell(topology, 1, Server(writable=True), 1.12, galera=True)
    assert topology.decide("primary", 1.12, nothing_lent) == Use((1,))
    assert topology.decide("primary", 3.0, nothing_lent) == Ask(0)
    topology.asking(0)
    assert topology.decide("primary", 3.0, nothing_lent) == Use((1,)), "one that was down is not waited for"


def test_a_replica_that_is_too_far_behind_is_not_read_from() -> None:
    topology = new(2, max_lag=5.0)
    topology.answered(0, 1.0, Answer(writable=True))
    topology.answered(1, 1.0, Answer(lag=7.0))
    assert not isinstance(topology.decide("replica", 1.0, nothing_lent), Use)
    assert topology.decide("prefer-replica", 1.0, nothing_lent) == Use((0, 1))


def test_an_answer_to_an_older_question_of_the_monitor_does_not_overrule_what_was_learnt_since() -> None:
    topology = new()
    servers = [Server(writable=True), Server(), Server()]
    assert settle(topology, servers, "primary", 1.0)[0] == Use((0,))
    topology.suspect(0, 2.0, "a statement was lost")
    assert not topology.observed(0, 1.9, Answer(writable=True))
    assert topology.endpoints[0].state is State.SUSPECT
    assert topology.missed(0, 1.9, "silent"), "it was silent since before the statement was lost"
    topology.answered(0, 2.5, Answer(writable=True))
    assert not topology.missed(0, 2.4, "silent"), "it has answered a caller meanwhile"


def test_a_reader_without_a_replica_asks_again_whether_a_host_is_one_by_now() -> None:
    """A cluster that only reads learns of no other role by its statements."""
    topology = new(2)
    servers = [Server(writable=True), Server(writable=True)]
    assert settle(topology, servers, "any", 1.0)[0] == Use((0, 1))
    decision = topology.decide("replica", 1.5, nothing_lent)
    assert isinstance(decision, Wait), "they were asked just now"
    assert decision.until < 1.5 + 2 * LONGEST_DELAY
    servers[1].writable = False
    assert settle(topology, servers, "replica", decision.until)[0] == Use((1,))


def test_a_server_that_stays_down_is_asked_less_and_less_often() -> None:
    topology = new(1)
    now, asked = 1.0, 0
    while now < 11.0:
        decision = topology.decide("primary", now, nothing_lent)
        if isinstance(decision, Ask):
            topology.failed(0, now, "refused")
            asked += 1
        else:
            assert isinstance(decision, Wait)
            now = decision.until
    assert asked <= 16


@pytest.mark.parametrize(
    ("balance", "order"),
    [("order", (0, 1, 2)), ("least-used", (2, 0, 1)), ("zone", (1, 2, 0))],
)
def test_readers_are_spread_as_asked(balance: Any, order: tuple[int, ...]) -> None:
    endpoints = [Endpoint("a", zone="x"), Endpoint("b", zone="y"), Endpoint("c", weight=2.0, zone="x")]
    topology = Topology(endpoints, random=lambda: 0.5, balance=balance, zone="y")
    for index in range(3):
        topology.answered(index, 1.0, Answer())
    assert topology.decide("any", 1.0, [2, 3, 2].__getitem__) == Use(order)


@dataclass
class Books:
    """Of a pool."""

    _living: range
    idle: range


@dataclass
class Counted:
    """A pool with books."""

    _ledger: Books


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([5e-324, 0.5, 1.0, 3.0])), min_size=1))
def test_a_reader_of_known_hosts_is_sent_where_a_decision_would_send_it(hosts: list[tuple[int, int, float]]) -> None:
    lent = [used for used, _, _ in hosts]
    pools: list[Any] = [Counted(Books(range(used + idle), range(idle))) for used, idle, _ in hosts]
    express = Express(1.0, pools, [weight for _, _, weight in hosts], lambda: 0)
    endpoints = [Endpoint(str(place), weight=weight) for place, (_, _, weight) in enumerate(hosts)]
    order = spread(endpoints, range(len(hosts)), "least-used", "", lent.__getitem__, lambda: 0.5)
    assert express.pool() is pools[order[0]]
    assert lent[0] or express.first is pools[order[0]], "it is taken while nothing of it is lent"


def test_a_weight_is_a_share_of_the_readers() -> None:
    from random import Random

    endpoints = [Endpoint("a", weight=1.0), Endpoint("b", weight=3.0)]
    topology = Topology(endpoints, random=Random(7).random, balance="weighted")
    for index in range(2):
        topology.answered(index, 1.0, Answer())
    first = [topology.decide("any", 1.0, nothing_lent) for _ in range(2000)]
    share = sum(isinstance(decision, Use) and decision.endpoints[0] == 1 for decision in first) / 2000
    assert 0.70 < share < 0.80
