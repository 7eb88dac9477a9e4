"""The board's folder: nothing that was counted is lost or counted twice, and ended processes leave one file."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool import ConnectionPool, status
from pymysqlpool._observe import ended, process
from pymysqlpool._observe.board import Board
from pymysqlpool._observe.board import board as board_of
from pymysqlpool._observe.process import counts, follow
from pymysqlpool.metrics import pools
from pymysqlpool.prometheus import metrics_page
from tests.conftest import MakePool
from tests.serving import ROOT
from tests.support import in_child, wait_until

WORKER = """
import json, sys
from pathlib import Path
from pymysqlpool import ConnectionPool
from pymysqlpool._observe.board import Board

arguments, folder, ending = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
Board(folder).publish()
pool = ConnectionPool(**arguments, name="shop")
for _ in range(5):
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")
if ending == "closes its pool":
    pool.close()
"""


def borrowed(board: Board) -> int:
    return sum(pool["borrowed"] for process in board.read() for pool in process["pools"])


def age(board: Board) -> None:
    """Make all files as old as they have to be."""
    long_ago = time.time() - ended.REST - 1
    for path in board.folder.iterdir():
        os.utime(path, (long_ago, long_ago))


def add_up(board: Board) -> None:
    ended.add_up(board.folder, board._replace)


def work(board: Board, connect_args: dict[str, Any], ending: str = "") -> None:
    subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps(connect_args), str(board.folder), ending],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("ending", ["closes its pool", "leaves it open"])
def test_a_process_that_ends_in_good_order_has_written_all_it_counted(
    tmp_path: Path, connect_args: dict[str, Any], ending: str
) -> None:
    board = Board(tmp_path)
    work(board, connect_args, ending)
    assert borrowed(board) == 5


def test_ended_processes_leave_one_file_with_their_sums(tmp_path: Path, connect_args: dict[str, Any]) -> None:
    board = Board(tmp_path)
    for ending in ("closes its pool", "leaves it open"):
        work(board, connect_args, ending)
    (tmp_path / ".new-of one that was killed").write_text("{")
    add_up(board)
    assert len(list(tmp_path.glob("*.json"))) == 2, "files are kept for a while"
    age(board)
    before = borrowed(board)
    add_up(board)
    assert (borrowed(board), before) == (10, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ended", "lock"]
    work(board, connect_args)
    age(board)
    add_up(board)
    assert borrowed(board) == 15
    (process,) = board.read()
    (pool,) = process["pools"]
    assert not process["alive"]
    assert (pool["maxsize"], sum(pool["use"]["counts"]), sum(pool["create"]["counts"])) == (0, 15, 3)


def test_a_kill_between_the_sum_and_the_removal_counts_nothing_twice(
    tmp_path: Path, connect_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(tmp_path)
    work(board, connect_args)
    age(board)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):

        def killed(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(Path, "unlink", killed)
        add_up(board)
    assert len(list(tmp_path.glob("*.json"))) == 1
    assert borrowed(board) == 5
    add_up(board)
    assert list(tmp_path.glob("*.json")) == []
    assert borrowed(board) == 5


def test_a_reader_sees_the_same_sum_while_files_are_added_up(tmp_path: Path, connect_args: dict[str, Any]) -> None:
    board = Board(tmp_path)
    work(board, connect_args)
    (written,) = tmp_path.glob("*.json")
    content = written.read_text()
    for path in tmp_path.iterdir():
        path.unlink()
    for pid in range(4_200_000, 4_200_200):  # above the kernel's largest number of a process: these have ended
        (tmp_path / f"{pid}-1.json").write_text(content)
    age(board)
    seen, done = set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(borrowed(board))

    reader = threading.Thread(target=look)
    reader.start()
    wait_until(lambda: seen, "a first look")
    add_up(board)
    done.set()
    reader.join(20)
    assert seen | {borrowed(board)} == {1000}
    assert list(tmp_path.glob("*.json")) == []


def test_what_a_closed_and_a_dropped_pool_counted_still_counts(connect_args: dict[str, Any], tmp_path: Path) -> None:
    board = Board(tmp_path)
    pool = ConnectionPool(**connect_args, name="one of many")
    with pool.get_connection():
        pass

    def counted() -> list[tuple[bool, int, int]]:
        board.write()
        return [
            (process["alive"], numbers["borrowed"], numbers["maxsize"])
            for process in board.read()
            for numbers in process["pools"]
            if numbers["label"] == "one of many"
        ]

    assert counted() == [(True, 1, pool.stats().maxsize)]
    pool.close()
    assert counted() == [(False, 1, 0)]
    with pool_of_a_moment(connect_args, "one of many"):
        pass
    gc.collect()
    assert counted() == [(False, 2, 0)], "of a pool that no write has seen"
    its = weakref.ref(pool)
    del pool
    gc.collect()
    assert its() is None
    assert [counted(), counted()] == [[(False, 2, 0)]] * 2


@contextmanager
def pool_of_a_moment(connect_args: dict[str, Any], name: str) -> Iterator[ConnectionPool]:
    with ConnectionPool(**connect_args, name=name) as pool, pool.get_connection() as connection:
        connection.execute("SELECT 1")
        yield pool


@pytest.mark.usefixtures("hasty")
def test_pools_that_are_made_dropped_and_closed_meanwhile_fail_no_look_and_no_count_falls(
    connect_args: dict[str, Any],
) -> None:
    follow()
    done, errors, seen = threading.Event(), list[Exception](), list[int]()
    number = 60

    def make() -> None:
        for place in range(number):
            pool = ConnectionPool(**connect_args, name="tenant", size=1, maxsize=1)
            if place % 10 == 0:
                pool.get_connection().close()
            if place % 3 == 0:
                pool.close()

    def look() -> None:
        try:
            while not done.is_set():
                seen.append(counts().get("tenant", {}).get("borrowed", 0))
                pools()
        except Exception as error:  # noqa: BLE001 - for the main thread
            errors.append(error)

    looker = threading.Thread(target=look)
    looker.start()
    makers = [threading.Thread(target=make) for _ in range(2)]
    for thread in makers:
        thread.start()
    for thread in makers:
        thread.join(30)
    done.set()
    looker.join(30)
    gc.collect()
    assert errors == []
    assert sorted(seen) == seen
    assert counts()["tenant"]["borrowed"] == 2 * number / 10
    assert len(_known_sum()) == 1, "one entry for each label, however many pools there were"


def test_a_pool_in_a_circle_is_counted_also_before_its_finalizer_runs(connect_args: dict[str, Any]) -> None:
    """The collector clears all weak references to a circle first, and runs its finalizers then."""
    seen: list[int] = []

    class Looker:
        pool: ConnectionPool

        def __del__(self) -> None:
            seen.append(counts()["in a circle"]["borrowed"])

    follow()
    before = Looker()
    pool = ConnectionPool(**connect_args, name="in a circle")
    after = Looker()
    before.pool = after.pool = pool
    pool.lookers = before, after  # type: ignore[attr-defined]
    pool.get_connection().close()
    assert counts()["in a circle"]["borrowed"] == 1
    del pool, before, after
    gc.collect()
    assert seen == [1, 1]
    assert counts()["in a circle"]["borrowed"] == 1


def _known_sum() -> list[Any]:
    process._known.by_label()
    return process._known._sum[1]


def test_two_pools_of_one_label_have_one_curve(make_pool: MakePool, tmp_path: Path) -> None:
    board = Board(tmp_path)
    pools_of_it = [make_pool(name="twice") for _ in range(2)]
    held = [pool.get_connection() for pool in pools_of_it]
    for _ in range(3):
        board._write_locked(adds_to_curve=True)
    (process,) = board.read()
    assert [pool["curve"] for pool in process["pools"]] == [[[2, 0]] * 3, []]
    for connection in held:
        connection.close()
    for pool in pools_of_it:
        pool.close()
    board._write_locked(adds_to_curve=True)
    assert board._curve == {}, "nothing is kept of a label that is gone"


# -- a folder that cannot be written to ----------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "board failed"]


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A board whose disk has no room for a byte, but for names."""
    board = Board(tmp_path)

    def no_room(handle: Any, mode: str) -> Any:
        os.close(handle)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pymysqlpool._observe.board.open", no_room, raising=False)
    return board


def test_with_a_full_disk_a_page_shows_what_there_is_and_no_file_is_left(
    full: Board, make_pool: MakePool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(name="shop")
    pool.get_connection().close()
    for _ in range(5):
        assert [one["pools"][0]["borrowed"] for one in full.read(own=full.write()) if one["alive"]] == [1]
        full.keep_up()
    try:
        assert {path.name for path in full.folder.iterdir() if path.suffix != ".counts"} <= {"lock"}
        assert len(told(caplog)) == 1
        assert "No space left" in told(caplog)[0]
        monkeypatch.undo()
        full.write()
        assert len(list(full.folder.glob("*.json"))) == 1, "it goes on as soon as there is room"
    finally:
        full.stop()


@pytest.mark.parametrize("obstacle", ["a file", "removed"])
def test_a_folder_that_cannot_be_used_fails_neither_the_application_nor_the_page(
    obstacle: str, tmp_path: Path, make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    make_pool(name="shop").get_connection().close()
    folder = tmp_path / "there" / "board"
    if obstacle == "a file":
        folder.parent.write_text("")
    assert status.publish(folder)
    its = board_of(folder)
    assert its
    try:
        if obstacle == "removed":
            wait_until(lambda: [*folder.glob("*.json")], "the numbers")
            shutil.rmtree(folder.parent)
            wait_until(lambda: [*folder.glob("*.json")], "the numbers again")
        assert b"shop" in status.page(folder)[1]
        assert b'{db_client_connection_pool_name="shop"} 1.0' in metrics_page(folder)[1]
        lines = told(caplog)
        assert lines or obstacle == "removed"
        assert len(lines) == len({*lines}), "not a line for each second"
    finally:
        its.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="root may read all files, and become another user")
def test_a_file_of_another_user_is_told_of_and_not_thrown_away(connect_args: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # one that others can enter
        os.chmod(folder, 0o777)
        board = Board(Path(folder))
        work(board, connect_args)
        age(board)

        def as_another_user() -> object:
            os.setuid(65534)
            found, failing = list(board.read()), str(board._failing)
            with suppress(PermissionError):  # the lock is the other user's, too
                add_up(board)
            return failing if found == [] else found

        assert in_child(as_another_user) == "returned {'read all files': (<class 'PermissionError'>, 13)}"
        assert borrowed(board) == 5


def test_an_error_of_any_kind_does_not_end_the_thread(
    tmp_path: Path, make_pool: MakePool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pool(name="shop")
    board = Board(tmp_path)
    with monkeypatch.context() as patched:

        def strange(*_: Any) -> None:
            raise RuntimeError("strange")

        patched.setattr(Board, "_write_locked", strange)
        board.publish()
        wait_until(lambda: told(caplog), "a line of the log")
    try:
        wait_until(lambda: borrowed(board) == 0 and [*tmp_path.glob("*.json")], "the numbers")
        assert len(told(caplog)) == 1
    finally:
        board.stop()
