"""Does a server have a commit? Asked over a lease of it, before a caller reads what it has written elsewhere.

Owns: the statements that wait for a position, and how long. Never: decides which server is asked instead.

Invariant that lives here: only the server's own word counts. A timeout, an error, and a token that is not understood
all mean no.

Sources: MariaDB Knowledge Base, "MASTER_GTID_WAIT" (0: applied, -1: not in time), "wsrep_sync_wait" (1: a read waits
until everything that the cluster has certified before is applied); MySQL 9 Reference Manual, 14.18.2
"WAIT_FOR_EXECUTED_GTID_SET" (0: applied, 1: not in time). A replica that applies transactions in parallel commits them
in the primary's order by default on both (MySQL: replica_preserve_commit_order, from 8.0.27).
"""

from __future__ import annotations

import re
from time import monotonic

from pymysql import err

from .._driver.commands import COM_QUERY
from .._pool.lease import Connection

_LONGEST = 0.1  # seconds for which a replica is waited for; then the primary is read
_LONGEST_SYNC = 1.0  # seconds; in a Galera cluster the primary would have to wait as well
_ANSWER = 0.5  # seconds for the answer on top of that; a server without one is lost
_MARIADB = re.compile(r"\d+-\d+-\d+(,\d+-\d+-\d+)*")
_MYSQL = re.compile(r"[0-9a-fA-F-]{36}(:[\w-]+)+(, *[0-9a-fA-F-]{36}(:[\w-]+)+)*")


def has_commit(lease: Connection, token: str, galera: bool, deadline: float) -> bool:
    """Return whether the server of `lease` has the commit at `token`, after a short wait for it.

    Args:
        galera: it is a node of a Galera cluster; then the token does not matter.
        deadline: monotonic time of the caller.
    """
    longest = max(0.0, min(_LONGEST_SYNC if galera else _LONGEST, deadline - monotonic()))
    if galera:
        question = "SET STATEMENT wsrep_sync_wait = 1 FOR SELECT 0"
    elif _MARIADB.fullmatch(token):
        question = f"SELECT MASTER_GTID_WAIT('{token}', {longest:.3f})"
    elif _MYSQL.fullmatch(token):
        question = f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{token}', {longest:.3f})"
    else:
        return False
    try:
        with lease.within(monotonic() + longest + (0.0 if galera else _ANSWER)):
            (said,) = lease.outcomes([(COM_QUERY, question.encode())])
    except err.MySQLError:
        return False  # it is lost, which its return finds out
    return not isinstance(said, err.MySQLError) and str(said.rows[0][0]) == "0"
