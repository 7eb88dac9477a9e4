"""The board's folder: nothing that was counted is lost or counted twice, and ended processes leave one file."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool._observe import ended
from pymysqlpool._observe.board import Board, _has_ended
from tests.serving import ROOT
from tests.support import wait_until

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
    ended.add_up(board.folder, _has_ended, board._replace)


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
    written.unlink()
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
    its = weakref.ref(pool)
    del pool
    gc.collect()
    assert its() is None
    assert [counted(), counted()] == [[(False, 1, 0)]] * 2
