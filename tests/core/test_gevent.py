"""Under gevent, monkey-patched: greenlets wait in order, and one that is killed at any point harms no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sweep import Sweep

pytest.importorskip("gevent", reason="gevent is not installed")

SCRIPT = """
from gevent import monkey
monkey.patch_all()
import gc, json, random, sys
import gevent
from pymysqlpool import ConnectionPool
args = json.loads(sys.argv[1])
pool = ConnectionPool(size=2, maxsize=2, autocommit=True, **args)
wrong, good, order = [], 0, []

def ask(token):
    global good
    with pool.get_connection(timeout=20) as connection:
        connection.execute(f"select {token}, sleep({token % 3} / 1000)")
        row = connection.fetchone()
        if row[0] == token:
            good += 1
        else:
            wrong.append((row, token))

chance = random.Random(1)
for round in range(150):
    greenlets = [gevent.spawn(ask, round * 100 + index) for index in range(8)]
    gevent.sleep(chance.uniform(0, 0.004))
    chance.choice(greenlets).kill()
    try:
        with gevent.Timeout(chance.uniform(0.0001, 0.004)):
            ask(round * 100 + 50)
    except gevent.Timeout:
        pass
    gevent.joinall(greenlets, raise_error=False)
    failed = [repr(g.exception) for g in greenlets if g.exception and not isinstance(g.exception, gevent.GreenletExit)]
    assert not failed, failed
    del greenlets

gc.collect()
held = [pool.get_connection(timeout=5) for _ in range(2)]
def wait(index):
    with pool.get_connection(timeout=5):
        order.append(index)
waiters = []
for index in range(6):
    waiters.append(gevent.spawn(wait, index))
    while pool.stats().waiting <= index:
        gevent.sleep(0)
held.pop().close()  # one goes from greenlet to greenlet; of two, the one that needs no look at its socket is lent first
gevent.joinall(waiters, raise_error=True)
held.pop().close()
stats = pool.stats()
print(json.dumps({"wrong": wrong, "good": good, "order": order, "in_use": stats.in_use, "total": stats.total}))
pool.close()
"""


# What threads are promised, greenlets are promised too.
SAME_TESTS = ["test_pool", "test_deadlock", "test_ageing", "test_reports", "test_outages", "test_recovery"]


@pytest.mark.timeout(400)
def test_the_tests_for_threads_pass_with_greenlets(sweep: Sweep) -> None:
    if "gevent.monkey" in sys.modules and sys.modules["gevent.monkey"].is_module_patched("threading"):
        pytest.skip("these are greenlets already")
    command = [sys.executable, "-m", "gevent.monkey", "--module", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--timeout", "120", *(f"tests/core/{name}.py" for name in sweep.some(SAME_TESTS, 0.17))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=390, cwd=Path(__file__).parent.parent.parent)
    assert done.returncode == 0, done.stdout[-5000:]


def test_killed_and_timed_out_greenlets_leave_right_answers_and_full_capacity(
    connect_args: dict[str, Any], tmp_path: Path
) -> None:
    script = tmp_path / "greenlets.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(connect_args)],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=Path(__file__).parent.parent.parent,
        env={"PYTHONPATH": str(Path(__file__).parent.parent.parent), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["wrong"] == []
    assert told["good"] > 800
    assert told["order"] == sorted(told["order"])
    assert told["in_use"] == 0
    assert told["total"] <= 2
