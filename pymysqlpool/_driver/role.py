"""The server's role at this moment: the statements that ask for it, and the reading of their results.

A server that takes logins can still be the wrong one: read-only after a switchover, a Galera node without quorum (which
answers `@@read_only` with 0), a donor. The question is one more command of a new session's set-up, so it costs no
round trip of its own where commands are sent in one go.

Owns: the commands and the reading of their rows; pure. Never: sends, waits, or decides what follows from a role.

Sources: MariaDB Knowledge Base, "Galera Cluster Status Variables" (wsrep_ready, wsrep_local_state: 4 is Synced, 2 is
Donor/Desynced, which serves queries, and falls behind meanwhile), and "read_only"; MySQL 9 Reference Manual,
"super_read_only", "innodb_read_only" (Aurora's readers have it set).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .._util.record import Record

if TYPE_CHECKING:
    from ..options import RoleWanted

_SYNCED = "4"
_DONOR = "2"
_OFF = frozenset({"OFF", "0", ""})  # MariaDB 12 has more than one way to be read-only
_READ_ONLY = ("read_only", "super_read_only", "innodb_read_only")
_GTIDS = ("log_bin", "gtid_mode", "gtid_domain_id")  # the last two: of MySQL, of MariaDB
_GALERA = ("wsrep_ready", "wsrep_local_state", "wsrep_cluster_status")

# The statements to send, each with one result, for `read`. A name that the server does not know is no row.
QUESTIONS = tuple(
    f"SHOW GLOBAL {kind} WHERE Variable_name IN ({', '.join(map(repr, names))})"
    for kind, names in (("VARIABLES", (*_READ_ONLY, *_GTIDS, "wsrep_on")), ("STATUS", _GALERA))
)


class Role(Record):
    """A server's role.

    Attributes:
        ready: it does work at all.
        writable: it takes writes; False on a replica.
        galera: it is a node of a Galera cluster, in which every ready node takes writes.
        said: the server variables and values that show it, for messages.
        gtids: each of its commits has a global transaction id, for which a replica can wait.
        donor: it is a Galera node that copies its data to another one, or was desynchronized for a backup.
    """

    ready: bool
    writable: bool
    galera: bool
    said: str
    gtids: bool = False
    donor: bool = False

    def fits(self, wanted: RoleWanted) -> bool:
        """Whether a server of this role may serve a pool that wants `wanted`."""
        if wanted == "any":
            return True
        if wanted == "ready":
            return self.ready
        return self.ready and not self.donor and self.writable == (wanted == "primary")


def read(results: Iterable[Iterable[Sequence[Any]]]) -> Role:
    """Return the role, from the results of `QUESTIONS`, rows of name and value."""
    values = {str(row[0]).lower(): str(row[1]) for rows in results for row in rows}
    said = [f"{name}={values[name]}" for name in _READ_ONLY if values.get(name, "").upper() not in _OFF]
    writable = not said
    ready, donor = True, False
    galera = values.get("wsrep_on", "").upper() not in _OFF
    if galera:
        state = values.get("wsrep_local_state")
        donor = state == _DONOR
        ready = values.get("wsrep_ready") == "ON" and (donor or state == _SYNCED)
        said += [f"{name}={values[name]}" for name in _GALERA if name in values]
    has_ids = values.get("gtid_mode") == "ON" or "gtid_domain_id" in values
    gtids = has_ids and not galera and values.get("log_bin", "").upper() not in _OFF
    return Role(ready, ready and writable, galera, ", ".join(said) or "read_only=OFF", gtids, donor)
