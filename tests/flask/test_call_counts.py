"""What a request costs, in Python calls; see `tests/core/test_call_counts.py`, also for how to change a bound."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest

from benchmarks.cases.web_flask import ours, request, without
from benchmarks.peers import query
from pymysqlpool import ConnectionPool
from pymysqlpool._pool.idle_lease import HAS_GIL
from pymysqlpool.devserver import DevServer
from tests.core.test_call_counts import calls

MORE_THAN_BORROWING = 107  # 100, and on Python 3.14, whose locks are wrapped, 106
HOOKS = 6  # functions and receivers that Flask calls
# How Flask and blinker find out, at each call of each of them, that it is no coroutine; differs between Pythons.
OF_HOOKS = frozenset(
    {"_has_code_flag", "_has_coroutine_mark", "_unwrap_partial", "_unwrap_partialmethod", "isfunction", "ismethod"}
)


@pytest.mark.skipif(not HAS_GIL, reason="without a GIL a borrow takes the lock, which costs more calls")
def test_a_request_with_one_query_takes_few_calls_more_than_a_page_without_and_the_query(server: DevServer) -> None:
    with ExitStack() as stack:
        page, bare = ours(server.connect_args, stack), without()
        pool = ConnectionPool(**server.connect_args)
        stack.callback(pool.close)

        def borrow() -> None:
            connection = pool.get_connection()
            query(connection)
            connection.close()

        found, least = calls(lambda: request(page)), calls(lambda: request(bare)) + calls(borrow)
    assert found["iscoroutinefunction"] - least["iscoroutinefunction"] <= HOOKS
    found, least = (Counter({name: n for name, n in one.items() if name not in OF_HOOKS}) for one in (found, least))
    more = found.total() - least.total()
    listing = ", ".join(f"{name} {number}" for name, number in (found - least).most_common())
    assert more <= MORE_THAN_BORROWING, f"{more} Python calls more. They are: {listing}"
