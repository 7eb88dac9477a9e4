"""What a server tells of itself and its group: the statements to ask with, and the reading of their rows.

    group              | its members              | is it ready?                      | may it take writes?
    -------------------|--------------------------|-----------------------------------|------------------------
    Galera             | wsrep_incoming_addresses | wsrep_ready, wsrep_local_state    | each ready node
    Group Replication  | replication_group_members| ONLINE, and most members in reach | MEMBER_ROLE and read_only
    Aurora             | replica_host_status      | it answers                        | innodb_read_only
    replication        | a replica names its source| it answers                       | read_only

Owns: the statements, and what each kind of answer means; pure. Never: sends one (`asking`), uses a member (`members`).

Sources: MariaDB Knowledge Base, "Galera Cluster Status Variables" (the addresses are in the order of the nodes' index,
wsrep_local_index) and "SHOW REPLICA STATUS" (the seconds are NULL while replication is stopped); MySQL 9 Reference
Manual, 29.12.11.16 "The replication_group_members Table" (MEMBER_STATE UNREACHABLE: suspected; a group that lost its
majority blocks its writes) and 15.7.7.36 "SHOW REPLICA STATUS"; Amazon Aurora User Guide, "Monitoring Aurora MySQL
replication" (information_schema.replica_host_status: the writer's SESSION_ID is MASTER_SESSION_ID), and "Aurora
endpoint types" (an instance's host is its name, a dot, and the suffix that all endpoints of the cluster share).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

from .._driver.role import Role
from .._util.url import host_and_port, joined
from .endpoints import FOREVER, Answer, Missing

Kind = Literal["auto", "static", "galera", "replication", "group"]

WHAT = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_id', 'aurora_version', 'group_replication_group_name', "
    "'group_replication_single_primary_mode')"
)
GALERA = (
    "SHOW GLOBAL STATUS WHERE Variable_name IN "
    "('wsrep_incoming_addresses', 'wsrep_local_index', 'wsrep_cluster_state_uuid')"
)
GROUP = (
    "SELECT member_id, member_host, member_port, member_state, member_role, member_id = @@server_uuid "
    "FROM performance_schema.replication_group_members"
)
AURORA = (
    "SELECT server_id, replica_lag_in_milliseconds, server_id = @@aurora_server_id "
    "FROM information_schema.replica_host_status WHERE last_update_timestamp > NOW() - INTERVAL 3 MINUTE "
    "OR session_id = 'MASTER_SESSION_ID'"
)
UNKNOWN_MEMBERS = Missing(
    "the state of its group, and is judged by read_only alone", "SELECT ON performance_schema.replication_group_members"
)
UNKNOWN_LAG = "how far it is behind, and is read from whatever max_lag is"
UNKNOWN_SOURCE = "which server it follows"

Row = Sequence[Any]
_NOWHERE = frozenset({"0.0.0.0", "::", "AUTO", "UNDEFINED"})
_THERE = frozenset({"ONLINE", "RECOVERING"})
_LAG = ("Seconds_Behind_Master", "Seconds_Behind_Source")
_SOURCE = (("Master_Server_Id", "Source_Server_Id"), ("Master_Host", "Source_Host"), ("Master_Port", "Source_Port"))


def plain(role: Role, kind: Kind) -> Answer:
    """What its role alone tells; a server that is not of the wanted kind is not ready."""
    answer = Answer(role.ready, role.writable, multi_primary=role.galera, donor=role.donor, said=role.said)
    if kind == "galera" and not role.galera:
        return replace(answer, ready=False, said=f"it is no Galera node, and topology='galera' ({role.said})")
    return answer


def galera(answer: Answer, rows: Iterable[Row]) -> Answer:
    """A Galera node, by the rows of `GALERA`."""
    values = {str(row[0]).lower(): str(row[1]) for row in rows}
    addresses = values.get("wsrep_incoming_addresses", "").split(",")
    index = values.get("wsrep_local_index", "")
    own = addresses[int(index)] if index.isdecimal() and int(index) < len(addresses) else ""
    members = {address: address for address in addresses if is_usable(address)}
    return replace(
        answer,
        own=own if own in members else "",
        members=members,
        group=values.get("wsrep_cluster_state_uuid", ""),
    )


def group(answer: Answer, kind: Kind, name: str, single_primary: bool, rows: Iterable[Row]) -> Answer:
    """A server with Group Replication, by the rows of `GROUP`, the last column of which says whether it is itself."""
    rows = [[*map(str, row)] for row in rows]
    own = next((row for row in rows if row[5] == "1"), None)
    if own is None or own[3] == "OFFLINE":
        if not name and kind != "group":
            return answer  # no group was ever set up
        return replace(answer, ready=False, said=f"it is in no group ({answer.said})")
    in_reach = sum(row[3] != "UNREACHABLE" for row in rows)
    said = f"member_state={own[3]}, member_role={own[4]}, {in_reach} of {len(rows)} members in reach, {answer.said}"
    ready = answer.ready and own[3] == "ONLINE" and 2 * in_reach > len(rows)
    if own[4] == "SECONDARY" and answer.writable:
        ready = False  # its read_only was changed by hand: what is written here, the group does not have
    members = {row[0]: joined(row[1], row[2]) for row in rows if row[3] in _THERE}
    return replace(
        answer,
        ready=ready,
        multi_primary=not single_primary,
        said=said,
        own=own[0],
        members={member: address for member, address in members.items() if is_usable(address)},
        group=name,
    )


def aurora(answer: Answer, host: str, port: int, rows: Iterable[Row]) -> Answer:
    """An instance of Aurora at `host`, by the rows of `AURORA`, the last column of which says whether it is itself."""
    _, dot, suffix = host.partition(".")
    suffix = re.sub(r"^cluster-(ro-|custom-)?", "", suffix)
    lag, own, members = answer.lag, "", {}
    for name, behind, is_own in rows:
        if dot:
            members[str(name)] = f"{name}.{suffix}:{port}"
        if str(is_own) == "1":
            own = str(name)
            lag = None if behind is None or answer.writable else float(behind) / 1000
    return replace(answer, lag=lag, own=own, members=members)


def replica(answer: Answer, server_id: str, names: Sequence[str], rows: Iterable[Row]) -> Answer:
    """A server that may follow others, by the column names and the rows of SHOW REPLICA STATUS, one for each source.
    Its lag is that of the source it is behind most."""
    lag: float | None = None
    members = {}
    for row in rows:
        values = dict(zip(names, row, strict=True))
        for name in _LAG:
            if name in values:
                seconds = FOREVER if values[name] is None else float(values[name])
                lag = seconds if lag is None else max(lag, seconds)
        source, host, port = (next((str(values[name]) for name in pair if name in values), "") for pair in _SOURCE)
        if source not in ("", "0") and is_usable(address := joined(host, port)):
            members[source] = address
    return replace(answer, lag=lag, own=answer.own or server_id, members=answer.members or members)


def is_usable(address: str) -> bool:
    """Whether it is a host and a port that can be connected to. A node that does not know its own says AUTO."""
    try:
        host, port = host_and_port(address)
    except ValueError:
        return False
    return bool(host and port) and host not in _NOWHERE
