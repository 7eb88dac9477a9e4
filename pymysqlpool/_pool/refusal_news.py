"""A refused statement is news of its server when its error packet is read, not only when its connection is returned.

In between the application handles the error, which takes a web framework some milliseconds; meanwhile others would be
lent connections to a primary that has become read-only. The return judges the connection itself, as always.

Owns: which refusals are told at once. Never: judges a connection, ends one.
"""

from __future__ import annotations

from typing import Any

from pymysql import err

from ..failures import Server, of_statement
from .conveniences import Conveniences


class TellsOfRefusals(Conveniences):
    __slots__ = ()

    def _reply_failed(self, error: err.MySQLError) -> None:
        super()._reply_failed(error)
        pool: Any = getattr(self, "_pool", None)
        # A refusal that the borrower may have asked for, by a READ ONLY transaction, is left to the return.
        if pool is not None and of_statement(error, said_read_only=True).server is Server.REFUSES_WORK:
            pool._tell_of_refusal()
