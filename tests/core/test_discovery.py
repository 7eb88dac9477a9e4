"""What servers tell of themselves and their groups, as rows; and a world of members that hypothesis changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pymysql import err

from pymysqlpool._driver.role import Role
from pymysqlpool._routing import asking, discovery
from pymysqlpool._routing.endpoints import FOREVER, Answer, Endpoint, State
from pymysqlpool._routing.members import Members
from pymysqlpool._routing.topology import Topology

PRIMARY = Role(True, True, False, "read_only=OFF")
REPLICA = Role(True, False, False, "read_only=ON")
NODE = Role(True, True, True, "wsrep_ready=ON")
NAMES = ("a", "b", "c")


# -- the rows ----------------------------------------------------------------------------------------------


def galera(addresses: str, index: str = "0") -> Answer:
    rows = [("wsrep_incoming_addresses", addresses), ("wsrep_local_index", index), ("wsrep_cluster_state_uuid", "u")]
    return discovery.galera(discovery.plain(NODE, "auto"), rows)


def test_a_galera_node_names_the_others_and_which_of_them_it_is() -> None:
    answer = galera("10.0.0.1:3306,10.0.0.2:3307", "1")
    assert answer.own == "10.0.0.2:3307"
    assert set(answer.members.values()) == {"10.0.0.1:3306", "10.0.0.2:3307"}
    assert answer.multi_primary
    assert answer.group == "u"


@pytest.mark.parametrize("addresses", ["AUTO,AUTO", "", "0.0.0.0:3306", "db1", "a:b:c,d:no"])
def test_what_is_no_address_is_not_used(addresses: str) -> None:
    answer = galera(addresses)
    assert not answer.members
    assert not answer.own
    assert answer.ready, "it is used all the same"


def test_the_place_of_an_arbitrator_in_the_list_is_empty() -> None:
    assert galera("10.0.0.1:3306,,10.0.0.3:3306", "2").own == "10.0.0.3:3306"


def test_a_server_that_is_no_node_is_not_used_where_galera_is_said() -> None:
    assert not discovery.plain(PRIMARY, "galera").ready
    assert discovery.plain(PRIMARY, "auto").ready


def rows(*states: str, own: int = 0, primary: int = 0) -> list[tuple[Any, ...]]:
    return [
        (name, f"db-{name}", 3306, state, "PRIMARY" if index == primary else "SECONDARY", int(index == own))
        for index, (name, state) in enumerate(zip(NAMES, states, strict=False))
    ]


def member(role: Role, given: list[tuple[Any, ...]], kind: Any = "auto", single: bool = True) -> Answer:
    return discovery.group(discovery.plain(role, kind), kind, "g", single, given)


def test_a_member_of_a_group_is_what_its_group_says() -> None:
    primary = member(PRIMARY, rows("ONLINE", "ONLINE", "RECOVERING"))
    assert primary.ready
    assert primary.writable
    assert primary.members == {"a": "db-a:3306", "b": "db-b:3306", "c": "db-c:3306"}
    second = member(REPLICA, rows("ONLINE", "ONLINE", "ONLINE", own=1))
    assert second.ready
    assert not second.writable


@pytest.mark.parametrize("state", ["RECOVERING", "ERROR", "OFFLINE", "UNREACHABLE"])
def test_a_member_that_is_not_online_is_not_read_from(state: str) -> None:
    assert not member(REPLICA, rows("ONLINE", state, "ONLINE", own=1)).ready


@pytest.mark.parametrize(("states", "is_ready"), [("OUU", False), ("OOU", True), ("OU", False), ("O", True)])
def test_a_primary_that_lost_the_majority_is_not_written_to(states: str, is_ready: bool) -> None:
    full = {"O": "ONLINE", "U": "UNREACHABLE"}
    assert member(PRIMARY, rows(*(full[state] for state in states))).ready is is_ready


def test_a_member_with_an_ipv6_address_can_be_connected_to() -> None:
    told = [("a", "fe80::1", 3306, "ONLINE", "PRIMARY", 1), ("b", "fe80::2", 3307, "ONLINE", "SECONDARY", 0)]
    assert set(member(PRIMARY, told).members.values()) == {"[fe80::1]:3306", "[fe80::2]:3307"}


def test_a_secondary_that_was_made_writable_by_hand_is_no_primary() -> None:
    assert not member(PRIMARY, rows("ONLINE", "ONLINE", own=1)).ready


def test_a_group_in_which_all_take_writes_is_a_group_with_many_primaries() -> None:
    assert member(PRIMARY, rows("ONLINE", "ONLINE"), single=False).multi_primary


def test_a_server_outside_of_its_group_is_not_used() -> None:
    assert not member(REPLICA, []).ready
    assert not member(REPLICA, rows("OFFLINE"), "group").ready
    assert discovery.group(discovery.plain(PRIMARY, "auto"), "auto", "", True, []).ready, "it never had one"


WRITER = ("shop-1", None, 0)
READER = ("shop-2", 1500.0, 1)


@pytest.mark.parametrize("host", ["shop-2.abc.eu-1.rds.amazonaws.com", "shop.cluster-ro-abc.eu-1.rds.amazonaws.com"])
def test_an_aurora_reader_names_the_instances_and_how_far_it_is_behind(host: str) -> None:
    answer = discovery.aurora(discovery.plain(REPLICA, "auto"), host, 3306, [WRITER, READER])
    assert answer.own == "shop-2"
    assert answer.lag == 1.5
    assert answer.members["shop-1"] == "shop-1.abc.eu-1.rds.amazonaws.com:3306"


def test_an_aurora_behind_an_address_without_a_domain_names_no_member() -> None:
    assert not discovery.aurora(discovery.plain(PRIMARY, "auto"), "proxy", 3306, [WRITER, READER]).members


REPLICA_COLUMNS = ("Master_Host", "Master_Port", "Master_Server_Id", "Seconds_Behind_Master")


def test_a_replica_names_its_source_and_is_as_late_as_its_latest_source() -> None:
    given = [("db1", 3306, 7, 2), ("::1", 3306, 6, 1), ("db9", 3306, 0, None)]
    answer = discovery.replica(discovery.plain(REPLICA, "auto"), "8", REPLICA_COLUMNS, given)
    assert answer.members == {"7": "db1:3306", "6": "[::1]:3306"}, "of the other one nothing is known yet"
    assert answer.lag == FOREVER
    assert answer.own == "8"
    assert discovery.replica(answer, "8", REPLICA_COLUMNS, []).lag is None


# -- the statements ----------------------------------------------------------------------------------------


class Told:
    """A server that answers by what stands in the question; it is none that can be had on this machine."""

    host, port = "shop-2.abc.eu-1.rds.amazonaws.com", 3306

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def get_server_info(self) -> str:
        return "8.0.39"

    def outcomes(self, commands: list[tuple[int, bytes]]) -> list[Any]:
        question = commands[0][1].decode()
        self.asked.append(question)
        for word, said in self.answers.items():
            if word in question:
                return [said if isinstance(said, Exception) else Result(said)]
        return [Result([])]


class Result:
    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self.rows = rows
        self.description = [(name,) for name in REPLICA_COLUMNS]


def ask(told: Told, kind: Any = "auto", lag: bool = False) -> Answer:
    return asking.ask_server(told, asking.Asks(kind, lag))  # type: ignore[arg-type]


def test_a_reader_of_aurora_is_asked_for_its_instances() -> None:
    told = Told(aurora_version=[("aurora_version", "3.1"), ("server_id", "9")], replica_host_status=[WRITER, READER])
    told.answers["innodb_read_only"] = [("innodb_read_only", "ON")]
    answer = ask(told)
    assert not answer.writable
    assert answer.own == "shop-2"
    assert answer.lag == 1.5
    told.answers["replica_host_status"] = err.ProgrammingError(1109, "Unknown table")
    assert ask(told).ready, "an edition without that table"


MEMBER = [("group_replication_group_name", "g")]


def test_a_user_that_may_not_see_the_group_is_told_which_grant_is_missing_and_the_server_is_used() -> None:
    told = Told(group_replication_group_name=MEMBER, replication_group_members=err.OperationalError(1142, "denied"))
    for kind in ("auto", "group"):
        answer = ask(told, kind)
        assert answer.ready
        assert answer.missing is not None
        assert answer.missing.privilege == "SELECT ON performance_schema.replication_group_members"


def test_a_server_without_a_group_is_not_asked_for_one() -> None:
    told = Told()
    assert ask(told).ready
    assert not any("replication_group_members" in question for question in told.asked)
    unknown = Told(replication_group_members=err.ProgrammingError(1146, "no such table"))
    assert not ask(unknown, "group").ready


def test_a_refusal_that_is_news_of_the_server_is_an_error() -> None:
    told = Told(group_replication_group_name=MEMBER, replication_group_members=err.OperationalError(2013, "lost"))
    with pytest.raises(err.OperationalError):
        ask(told)


def test_a_group_is_not_asked_how_far_it_is_behind_its_source() -> None:
    told = Told(group_replication_group_name=MEMBER, replication_group_members=rows("ONLINE", "ONLINE"))
    ask(told, lag=True)
    assert not any("STATUS" in question and question.startswith("SHOW REPLICA") for question in told.asked)


# -- which members are new, and which have left --------------------------------------------------------------


class Group(RuleBasedStateMachine):
    """Servers join and leave a group, and answer a cluster that listed the first two of them."""

    LISTED = 2

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.there = {0, 1}
        endpoints = [Endpoint(f"name{number}:3306") for number in range(self.LISTED)]
        self.topology = Topology(endpoints, random=lambda: 0.5)
        self.members = Members(self.topology.endpoints)

    def name(self, number: int) -> str:
        return f"10.0.0.{number}:3306"

    def number(self, index: int) -> int:
        endpoint = self.topology.endpoints[index]
        return index if endpoint.listed else int(endpoint.name.split(":")[0].rpartition(".")[2])

    @rule(number=st.integers(0, 5), joins=st.booleans())
    def the_group_changes(self, number: int, joins: bool) -> None:
        (self.there.add if joins else self.there.discard)(number)
        self.now += 1

    @rule(index=st.integers(0, 7))
    def an_endpoint_is_asked(self, index: int) -> None:
        if index >= len(self.topology.endpoints) or self.topology.endpoints[index].left:
            return
        number = self.number(index)
        if number not in self.there:
            self.topology.failed(index, self.now, "refused")
            return
        members = {self.name(other): self.name(other) for other in self.there}
        answer = Answer(writable=True, multi_primary=True, own=self.name(number), members=members, group="g")
        self.members.hears(index, answer)
        self.topology.answered(index, self.now, answer)
        self.carry_out()

    def carry_out(self) -> None:
        endpoints = self.topology.endpoints
        for _ in range(len(endpoints) + 2):
            changes = self.members.changes()
            for left in changes.left:  # what it had said of others does not count any more
                assert not endpoints[left].listed
                endpoints[left].left = True
                self.topology.drain(left, self.now)
            for back in changes.back:
                assert endpoints[back].left
                endpoints[back].left = False
                self.topology.undrain(back, self.now)
            for own, address in changes.new.items():
                assert all(endpoint.told_at > -FOREVER for endpoint in endpoints[: self.LISTED])
                endpoints.append(Endpoint(address, listed=False, answer=Answer(ready=False, own=own)))
        assert self.members.changes() == ({}, [], []), "it comes to rest"

    @invariant()
    def no_server_is_used_twice(self) -> None:
        up = [self.number(i) for i, endpoint in enumerate(self.topology.endpoints) if endpoint.state is State.UP]
        assert len(up) == len(set(up))

    def teardown(self) -> None:
        """When the group stands still, the cluster knows exactly its members."""
        for _ in range(3):
            for index, endpoint in enumerate(list(self.topology.endpoints)):
                self.topology.suspect(index, self.now, "look again")
                if endpoint.state is not State.UP:
                    self.an_endpoint_is_asked(index)
        known = {self.number(i) for i, endpoint in enumerate(self.topology.endpoints) if not endpoint.left}
        if self.there & {0, 1}:
            assert known == self.there | {0, 1}


TestGroup = Group.TestCase


def named(index: int, *members: str) -> Answer:
    return Answer(writable=True, multi_primary=True, own=members[index], members={name: name for name in members})


def test_a_host_that_is_another_member_each_time_is_a_proxy_and_nothing_is_added() -> None:
    topology = Topology([Endpoint("proxy:3306"), Endpoint("other:3306")], random=lambda: 0.5)
    members = Members(topology.endpoints)
    all_names = ("n1:1", "n2:2", "n3:3")
    for index, node in ((0, 0), (1, 1)):
        members.hears(index, named(node, *all_names))
        topology.answered(index, 1.0, named(node, *all_names))
    assert members.changes().new == {"n3:3": "n3:3"}
    topology.endpoints.append(Endpoint("n3:3", listed=False))
    members.hears(0, named(2, *all_names))
    topology.answered(0, 2.0, named(2, *all_names))
    assert members.changes() == ({}, [2], [])


def test_a_found_host_that_cannot_be_reached_is_seldom_asked() -> None:
    topology = Topology([Endpoint("found:1", listed=False)], random=lambda: 0.5)
    for _ in range(20):
        topology.failed(0, 1.0, "no route")
    assert topology.endpoints[0].ask_at > 20
    topology.answered(0, 100.0, Answer())
    for _ in range(20):
        topology.failed(0, 200.0, "no route")
    assert topology.endpoints[0].ask_at < 202, "once it was well, it is asked like the others"
