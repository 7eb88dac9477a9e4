"""What a request costs, in Python calls; see `tests/core/test_call_counts.py`, also for how to change a bound."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.core import signals
from django.dispatch import Signal

from benchmarks.cases.web_django import PERSISTENT
from benchmarks.measure import OURS
from pymysqlpool import Connection
from pymysqlpool._pool.idle_lease import HAS_GIL
from pymysqlpool.devserver import DevServer

from .conftest import Connect

ROOT = Path(__file__).parents[2]
MORE_THAN_PERSISTENT = -48


def calls(backend: str, server: DevServer) -> Counter[str]:
    connect = json.dumps({**server.connect_args, "database": "mysql"})
    command = [sys.executable, "-m", "tests.django.calls_of_a_request", backend, connect]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Counter(json.loads(done.stdout))


@pytest.mark.skipif(not HAS_GIL, reason="without a GIL a borrow takes the lock, which costs more calls")
def test_a_request_with_one_query_takes_fewer_calls_than_with_a_persistent_connection(server: DevServer) -> None:
    ours, theirs = calls(OURS, server), calls(PERSISTENT, server)
    found = ours.total() - theirs.total()
    listing = ", ".join(f"{name} {number}" for name, number in (ours - theirs).most_common())
    assert found <= MORE_THAN_PERSISTENT, f"{found} Python calls more. They are: {listing}"


@pytest.mark.parametrize("signal", [signals.request_started, signals.request_finished])
def test_each_signal_of_a_request_has_one_receiver_of_ours(signal: Signal) -> None:
    """Django goes through all receivers at each request, and so costs each of them."""
    receivers = [receiver for (_, *_), receiver, *_ in signal.receivers]
    ours = [one for one in receivers if getattr(one, "__module__", "").startswith("pymysqlpool_django")]
    assert [one.__module__ for one in ours if "warn" not in one.__qualname__] == ["pymysqlpool_django.writes"]


def test_the_search_for_the_users_line_begins_at_cursor(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    begun_at: list[str] = []

    def note_place(self: Connection, frame: FrameType | None = None, within: FrameType | None = None) -> None:
        begun_at.append(within.f_code.co_name if within is not None else "")
        noted(self, frame, within)

    noted = Connection.note_place
    monkeypatch.setattr(Connection, "note_place", note_place)
    wrapper: Any = connect()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    wrapper.close()
    wrapper.ensure_connection()
    assert begun_at == ["cursor", ""]
