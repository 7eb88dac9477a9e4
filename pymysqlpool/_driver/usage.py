"""What the driver records about a lease.

Owns: the fields that an exchange reads and writes on the slot of its connection; the pool's `Slot` is one. Never:
decides which slots exist or which lease owns them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# For this long after a reply, polling the socket shows nothing new: a notice of the session's end is still on its way.
SOCKET_CHECK_INTERVAL = 20e-6  # seconds


class Usage:
    """Plain data. `holder`, `place` and `offset` are the pool's to write, the others the driver's and the pool's."""

    __slots__ = ("fresh_until", "holder", "in_transaction", "offset", "place", "queries", "user")

    def __init__(self) -> None:
        self.holder = 0  # id() of the lease that owns it; no other lease may send
        self.user: Any = None  # the thread or task that used it last: a weak reference, see `_util.callsite`
        self.place: Any = None  # where it was borrowed, for `callsite.resolve`
        self.offset = 0
        self.queries = 0  # how many statements its borrowers have sent
        self.in_transaction = 0  # truthy when the last reply's status flags said so; for reports
        # monotonic; until then polling the socket shows nothing newer than the server's last reply
        self.fresh_until = 0.0
