"""The file in which the pools of a process count: exact after a kill, whatever ends or forks meanwhile."""

from __future__ import annotations

import errno
import gc
import http.client
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool._observe import counts_file, ended
from pymysqlpool._observe.board import Board
from pymysqlpool._observe.counts_file import CountsFile, is_held
from pymysqlpool._observe.running import own_name
from pymysqlpool._pool.counters import Counters, histogram
from tests.conftest import MakePool
from tests.observe.served import APPLICATION
from tests.serving import ROOT, serving
from tests.support import in_child, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pools count in lists")

# Each thread says after each unit of work that it has ended, in one write to a pipe.
WORKER = """
import json, os, sys, threading, time
from pathlib import Path
from pymysqlpool import ConnectionPool
from pymysqlpool._observe import board
from pymysqlpool._observe.board import Board

arguments, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
board.INTERVAL = float(sys.argv[3])
Board(folder).publish()
pool = ConnectionPool(**arguments, name="shop", size=2, maxsize=2)

def work():
    while True:
        with pool.get_connection(timeout=30) as connection:
            connection.execute("SELECT 1")
        os.write(1, b"x")

both = [pool.get_connection(), pool.get_connection()]  # made, and waited for, before the first unit has ended
for _ in range(4):
    threading.Thread(target=work).start()
while pool.stats().waiting < 4:
    time.sleep(0.01)
for connection in both:
    connection.execute("SELECT 1")
    connection.close()
    os.write(1, b"x")
"""
THREADS = 5  # the main one too: of each, a unit may be counted that it has not said yet


def sums(board: Board) -> Counter[str]:
    found: Counter[str] = Counter()
    for process in board.read():
        for pool in process["pools"]:
            found["borrowed"] += pool["borrowed"]
            found["used"] += sum(pool["use"]["counts"])
            found["made"] += sum(pool["create"]["counts"])
            found["waits"] += pool["waits"]
            found.update({f"discarded {reason}": number for reason, number in pool["discarded"].items()})
    return found


@pytest.fixture
def board(tmp_path: Path) -> Any:
    board = Board(tmp_path)
    yield board
    board.stop()


@pytest.mark.parametrize("interval", [1.0, 0.002], ids=["seldom written", "always written"])
def test_a_process_that_is_killed_has_counted_all_it_did(
    interval: float, tmp_path: Path, connect_args: dict[str, Any]
) -> None:
    command = [sys.executable, "-c", WORKER, json.dumps(connect_args), str(tmp_path), str(interval)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as worker:
        assert worker.stdout is not None
        said = len(os.read(worker.stdout.fileno(), 1 << 16))
        while said < 500:
            said += len(os.read(worker.stdout.fileno(), 1 << 16))
        worker.kill()
        said += len(worker.stdout.read())
    seen = sums(Board(tmp_path))
    assert said <= seen["used"] <= said + THREADS
    assert seen["used"] <= seen["borrowed"] <= said + THREADS
    assert seen["made"] == 2
    assert seen["waits"] > 0
    long_ago = os.stat(tmp_path).st_mtime - 2 * ended.REST
    for path in tmp_path.iterdir():
        os.utime(path, (long_ago, long_ago))
    ended.add_up(tmp_path, Board(tmp_path)._replace)
    assert sums(Board(tmp_path)) == seen
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ended", "lock"]


def test_the_sums_equal_what_clients_got_answered_when_a_worker_is_killed_under_load(
    tmp_path: Path, connect_args: dict[str, Any]
) -> None:
    (tmp_path / "answering.py").write_text(APPLICATION)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "PYMYSQLPOOL_BOARD": str(tmp_path / "board"),
        "FLASK_PYMYSQLPOOL": json.dumps({**connect_args, "name": "shop"}),
    }
    answers: list[str] = []
    asked = threading.Event()
    with serving("gunicorn gthread", "answering:app", environment, threads=2, options=["--workers", "2"]) as web:

        def ask(_: int) -> None:
            while not asked.is_set():
                with suppress(OSError, http.client.HTTPException):  # of the worker that is killed
                    status, pid = web.ask("GET", "/one")
                    if status == 200:
                        answers.append(pid)

        with ThreadPoolExecutor(4) as crowd:
            for number in range(4):
                crowd.submit(ask, number)
            try:
                wait_until(lambda: [n for n in Counter(answers).values() if n > 20][1:], "work of both workers", 30)
                killed = Counter(answers).most_common(1)[0][0]
                os.kill(int(killed), signal.SIGKILL)
            finally:
                asked.set()
        board = Board(tmp_path / "board")

        def left() -> list[dict[str, Any]]:
            return [one for one in board.read() if str(one["pid"]) == killed]

        wait_until(lambda: not any(one["alive"] for one in left()), "its end", 30)
        its = sum(pool["borrowed"] for one in left() for pool in one["pools"])
        in_flight = 2  # one request of each thread at most
        assert answers.count(killed) <= its <= answers.count(killed) + in_flight


def test_a_forked_child_counts_nothing_in_its_parents_file(
    board: Board, make_pool: MakePool, connect_args: dict[str, Any]
) -> None:
    pool = make_pool(name="shop", size=2, maxsize=2)
    board.publish()
    lent = pool.get_connection()
    lent.execute("SELECT 1")

    def in_the_child() -> None:
        with suppress(Exception):
            lent.close()
        for _ in range(3):
            with pool.get_connection() as connection:
                connection.execute("SELECT 1")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            in_the_child()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert pool.stats().use.count == 0
    lent.close()
    board.write()
    by_process = {one["pid"]: sum(sum(p["use"]["counts"]) for p in one["pools"]) for one in board.read()}
    assert by_process.keys() == {os.getpid(), child}
    assert by_process[os.getpid()] == 1
    assert by_process[child] in (3, 4), "its return of the lease that came along may count as its own"
    assert is_held(board.folder / f"{own_name()}.counts"), "a child that ends keeps or ends no lock of its parent"


def test_a_pool_that_is_made_and_killed_between_two_writes_is_counted(
    tmp_path: Path, connect_args: dict[str, Any]
) -> None:
    board = Board(tmp_path)
    board.folder.mkdir(exist_ok=True)

    def killed() -> None:
        board.publish()
        board.write()
        with board._lock:  # no write from here on
            for name in ("one", "two", "one"):
                pool = ConnectionPool(**connect_args, name=name)
                with pool.get_connection() as connection:
                    connection.execute("SELECT 1")
                del pool, connection
                gc.collect()
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    by_label: Counter[str] = Counter()
    for one in board.read():
        by_label.update({pool["label"]: 0 for pool in one["pools"]})
        for pool in one["pools"]:
            by_label[pool["label"]] += pool["borrowed"]
    assert by_label == {"one": 2, "two": 1}


def test_blocks_of_pools_that_have_ended_are_used_again(board: Board, connect_args: dict[str, Any]) -> None:
    board.publish()
    path = board.folder / f"{own_name()}.counts"
    size = path.stat().st_size
    for number in range(400):
        pool = ConnectionPool(**connect_args, name=f"tenant {number % 7}")
        if number % 40 == 0:
            with pool.get_connection() as connection:
                connection.execute("SELECT 1")
            del connection
        del pool
        gc.collect(0)
        if number % 20 == 19:
            board.write()
    gc.collect()
    board.write()
    assert counts_file.read(path) == {}
    assert path.stat().st_size == size
    assert sums(board)["used"] == 10


def test_no_room_on_the_disk_lets_pools_count_in_lists_until_there_is(
    board: Board, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pool = make_pool(name="shop")
    path = board.folder / f"{own_name()}.counts"
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        board.publish()
        with pool.get_connection() as connection:
            connection.execute("SELECT 1")
        board.write()
        assert not path.exists()
        assert sums(board)["used"] == 1
    board.write()
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")
    ((label, cells),) = counts_file.read(path).values()
    assert (label, sum(cells[-11:-1])) == ("shop", 2)


def test_a_file_that_was_removed_is_made_again_with_all_counts(board: Board, make_pool: MakePool) -> None:
    pool = make_pool(name="shop")
    board.publish()
    path = board.folder / f"{own_name()}.counts"
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")
    path.unlink()
    board.write()
    assert is_held(path)
    ((_, cells),) = counts_file.read(path).values()
    assert sum(cells[-11:-1]) == 1


def test_moving_the_counts_loses_none_that_is_added_meanwhile() -> None:
    counters, done = Counters(), threading.Event()
    added = [0] * 3

    def add(place: int) -> None:
        while not done.is_set():
            use = counters.use
            use[0] += 1.0
            counters.waited(0.0)
            added[place] += 1

    threads = [threading.Thread(target=add, args=(place,)) for place in range(len(added))]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(300):
            counters.move_to(memoryview(bytearray(8 * 100)).cast("d"))
            counters.move_to(None)
        done.set()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(before)
    assert histogram(counters.use).count == histogram(counters.wait).count == sum(added)


@pytest.mark.parametrize("label", ["", "x" * 300_000, "ü\n\x1b'\"<b>"], ids=["none", "long", "odd"])
def test_any_name_of_a_pool_is_read_as_it_was_written(board: Board, connect_args: dict[str, Any], label: str) -> None:
    board.publish()
    pool = ConnectionPool(**connect_args, name=label or None)
    found = counts_file.read(board.folder / f"{own_name()}.counts")
    assert [name for name, _ in found.values()] == [pool.label]


def test_nonsense_in_a_file_of_counts_is_read_as_none(tmp_path: Path, make_pool: MakePool) -> None:
    board = Board(tmp_path)
    make_pool(name="shop")
    board.publish()
    content = (tmp_path / f"{own_name()}.counts").read_bytes()
    board.stop()
    path = tmp_path / "4200000-1.counts"
    for size in (0, 1, 7, 8, 9, 16, 31, 32, 40, 500, 65_535):
        path.write_bytes(content[:size])
        assert isinstance(sums(board), Counter)
    for at in range(0, 700, 7):
        path.write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
        assert isinstance(sums(board), Counter)


def test_a_process_is_seen_from_where_its_number_is_not(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that share the folder: the number is another process's there, or of none."""
    board.publish()
    wait_until(lambda: list(board.read()), "its numbers")
    monkeypatch.setattr("pymysqlpool._observe.running.started", lambda pid: "")
    assert [one["alive"] for one in board.read()] == [True]
    board.stop()
    assert [one["alive"] for one in board.read()] == [False]


def test_a_killed_process_of_another_namespace_is_seen_as_ended(board: Board, connect_args: dict[str, Any]) -> None:
    command = ["unshare", "--fork", "--pid", "--kill-child", sys.executable, "-c", WORKER]
    with (
        suppress(OSError),
        subprocess.Popen([*command[:-3], "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as probe,
    ):
        if probe.wait(20):
            pytest.skip("no namespace of processes can be made here")
    arguments = [json.dumps(connect_args), str(board.folder), "0.05"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, cwd=ROOT, env=environment) as worker:

        def alive() -> list[bool]:
            return [one["alive"] for one in board.read() if one["pools"]]

        wait_until(lambda: alive() == [True], "the process in the other namespace")
        worker.kill()
        assert worker.stdout is not None
        worker.stdout.read()
    wait_until(lambda: alive() == [False], "its end")


def test_the_lock_is_no_longer_taken_for_ours_when_all_handles_were_closed(board: Board, make_pool: MakePool) -> None:
    """As an application does that becomes a daemon: another file may have the handle's number since then."""
    make_pool(name="shop")
    board.publish()
    its = board._counts
    assert its is not None
    os.close(its._handle)
    other = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(other, its._handle) if other != its._handle else None
        board.write()
        assert is_held(board.folder / f"{own_name()}.counts")
        os.fstat(its._handle)
    finally:
        with suppress(OSError):
            os.close(other)


def test_a_counts_file_cannot_be_made_where_no_file_can(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        CountsFile(tmp_path / "none" / "x.counts")


def test_a_child_that_was_forked_sees_its_parent_run(board: Board) -> None:
    board.publish()
    wait_until(lambda: list(board.read()), "its numbers")
    assert in_child(lambda: all(one["alive"] for one in board.read())) == "returned True"
