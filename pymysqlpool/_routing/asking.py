"""The question to a server about its role, over a session with it. Never: decides what follows from the answer."""

from __future__ import annotations

from pymysql import err

from .._driver.commands import COM_QUERY
from .._driver.exchange import WireConnection
from .._driver.role import QUESTIONS, Role, read


def role_of(session: WireConnection) -> Role:
    """Ask the server of `session` for its role.

    Raises:
        pymysql.err.MySQLError: it does not answer, or refuses to.
    """
    results = []
    for question in QUESTIONS:
        (result,) = session.outcomes([(COM_QUERY, question.encode())])
        if isinstance(result, err.MySQLError):
            raise result
        results.append(result.rows)
    return read(results)
