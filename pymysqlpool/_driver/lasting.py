"""What a connection answers after its end: the plain facts about its session, as a closed connection of PyMySQL does.

Owns: which facts these are. Never: refuses the others; the lease does, see `_pool/spent_lease`.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

NAMES = (
    *("host", "port", "user", "db", "unix_socket", "host_info", "charset", "encoding", "collation", "use_unicode"),
    *("client_flag", "protocol_version", "server_version", "server_language", "server_charset", "autocommit_mode"),
)
Lasting = tuple[tuple[Any, ...], tuple[int]]  # the values of `NAMES`, and the server's number of the session

_values = itemgetter(*NAMES)


def lasting(attributes: Mapping[str, Any], known: dict[str, Any]) -> Lasting:
    """The facts in the `attributes` of a session, shared with other sessions where they are `known`."""
    values = _values(attributes)
    shared = known.setdefault("lasting", values)
    return shared if shared == values else values, attributes["server_thread_id"]


def fact(facts: Lasting, name: str) -> Any:
    """Return one of the facts.

    Raises:
        AttributeError: `name` is none.
    """
    if name == "server_thread_id":
        return facts[1]
    if name not in NAMES:
        raise AttributeError(name)
    return facts[0][NAMES.index(name)]
