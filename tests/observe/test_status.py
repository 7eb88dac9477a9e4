"""The status page and its numbers: of one process, and of all workers of a real server; and the drain by the folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pymysql
import pytest
from flask import Flask

from pymysqlpool import PoolTimeout, prometheus, status
from pymysqlpool._cli import main
from pymysqlpool._observe import ended
from pymysqlpool._observe.board import Board
from pymysqlpool._observe.board import board as board_of
from pymysqlpool.prometheus import metrics_page
from pymysqlpool_flask.cli import pool as commands
from tests.conftest import MakePool
from tests.observe.served import APPLICATION
from tests.serving import ROOT, serving
from tests.support import wait_until


def page() -> str:
    kind, body = status.page()
    assert kind == "text/html; charset=utf-8"
    return body.decode()


def test_a_borrower_is_shown_with_its_name_its_line_and_its_transaction(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2)
    first = pool.get_connection()
    done, go = threading.Event(), threading.Event()

    def work() -> None:
        with pool.get_connection() as connection:
            connection.begin()
            done.set()
            go.wait(10)

    thread = threading.Thread(target=work, name="<b>importer</b>")
    thread.start()
    assert done.wait(10)
    one, two = pool.borrowers()
    shown = page()
    go.set()
    thread.join()
    first.close()
    assert one.seconds >= two.seconds >= 0
    assert one.where.endswith("in test_a_borrower_is_shown_with_its_name_its_line_and_its_transaction")
    assert not one.in_transaction
    assert "importer" in two.who
    assert two.in_transaction
    assert two.where.endswith("work")
    assert "&lt;b&gt;importer" in shown
    assert "<b>importer" not in shown
    assert pool.borrowers() == []


def test_events_say_what_went_wrong_and_name_no_user(make_pool: MakePool) -> None:
    pool = make_pool(name="shop", size=1, maxsize=1)
    with pool.get_connection() as connection:
        with pytest.raises(PoolTimeout):
            pool.get_connection(timeout=0.01)
        connection.invalidate()
    discard, timeout = pool.events()
    assert (discard.kind, timeout.kind) == ("discard", "no connection")
    assert timeout.said.startswith("PoolTimeout after 0.0")
    assert discard.said in pool.stats().discarded
    refused = make_pool(user="jane_roe", password="S3cret-word")
    with pytest.raises(pymysql.err.OperationalError):
        refused.get_connection()
    assert [event.said for event in refused.events()] == ["OperationalError 1045 ACCESS_DENIED_ERROR"]
    shown = page()
    assert "ACCESS_DENIED_ERROR" in shown
    for secret in ("jane_roe", "S3cret"):
        assert secret not in shown


def test_the_page_needs_nothing_but_itself() -> None:
    shown = page()
    assert "<script" not in shown
    assert not re.search(r"(src|href)=", shown)
    assert "prefers-color-scheme: dark" in shown
    assert "width=device-width" in shown


@pytest.mark.parametrize("door", [status, prometheus])
def test_it_is_a_wsgi_and_an_asgi_application(door: Any, make_pool: MakePool) -> None:
    make_pool(name="shop", pre_create_num=1)
    application = validator(door.wsgi_app())

    def ask(method: str) -> tuple[str, bytes]:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ |= {"REQUEST_METHOD": method, "QUERY_STRING": ""}
        said: list[str] = []

        def start_response(line: str, headers: Any, exc_info: Any = None) -> Any:
            said.append(line)
            assert line[:3] != "200" or ("Cache-Control", "no-store") in headers

        body = application(environ, start_response)
        try:
            return said[0], b"".join(body)
        finally:
            body.close()

    line, body = ask("GET")
    assert line == "200 OK"
    assert b"shop" in body
    assert ask("HEAD") == ("200 OK", b"")
    assert ask("POST")[0].startswith("405")

    async def ask_async(method: str) -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await door.asgi_app()({"type": "http", "method": method}, None, send)
        return sent

    start, rest = asyncio.run(ask_async("GET"))
    assert start["status"] == 200
    assert b"shop" in rest["body"]
    assert asyncio.run(ask_async("HEAD"))[1]["body"] == b""
    assert asyncio.run(ask_async("DELETE"))[0]["status"] == 405


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "board")
    yield board
    board.stop()


def alive(board: Board) -> list[dict[str, Any]]:
    return [process for process in board.read() if process["alive"]]


def test_a_drain_by_the_folder_renews_the_pool_that_was_named(make_pool: MakePool, board: Board) -> None:
    one, two = make_pool(name="one", pre_create_num=1), make_pool(name="two", pre_create_num=1)
    board.publish()
    wait_until(lambda: alive(board), "the process to be seen")
    asked = board.ask_for_drain("one")
    wait_until(lambda: [process["drained"] for process in alive(board)] == [[asked]], "the drain")
    assert one.stats().discarded == {"generation": 1}
    assert two.stats().discarded == {}


def test_a_drain_that_cannot_be_read_does_not_stop_the_numbers(board: Board) -> None:
    board.folder.mkdir()
    request = board.folder / board.ask_for_drain(None)
    assert request.stat().st_mode & 0o444 == 0o444, "the processes may run as another user than root"
    board.publish()
    for content in ("", "[]", "3", "{}", "\0"):
        (board.folder / f"drain-{len(content)}").write_text(content)
    (board.folder / "drain-none").mkdir()
    wait_until(lambda: [len(process["drained"]) for process in alive(board)] == [5], "the numbers")


def test_two_requests_for_a_drain_in_one_second_are_both_carried_out(
    make_pool: MakePool, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_pool(name="one", pre_create_num=1), make_pool(name="two", pre_create_num=1)
    board.publish()
    wait_until(lambda: alive(board), "the process to be seen")
    monkeypatch.setattr("pymysqlpool._observe.board.time", lambda: 0.0)  # the clock was set back
    asked = sorted([board.ask_for_drain("one"), board.ask_for_drain("two")])
    wait_until(lambda: [process["drained"] for process in alive(board)] == [asked], "both drains")
    assert one.stats().discarded == two.stats().discarded == {"generation": 1}
    later = Board(board.folder)
    later._drains.ignore_those_there()
    later._drains.carry_out()
    assert later._drains.seen == {*asked}
    assert one.stats().discarded == {"generation": 1}, "older requests are no business of a new process"


def test_a_strange_file_in_the_folder_is_no_process(tmp_path: Path, make_pool: MakePool) -> None:
    """Whatever is in it: another program's content, another version's, half of ours; not even a file."""
    make_pool(name="shop")
    board = Board(tmp_path / "board")
    ours = board.write()
    (written,) = board.folder.glob("*.json")
    written.unlink()
    strange: list[Any] = [[], {}, 3, None, {"format": 2}, {"format": 3}, float("nan"), "\ud800"]
    strange += [{name: value for name, value in ours.items() if name != left_out} for left_out in ours]
    strange += [ours | {name: wrong} for name in ours for wrong in (None, "x", [3], {"x": 3}, [[]])]
    (pool,) = ours["pools"]
    strange += [ours | {"pools": [{name: pool[name] for name in pool if name != left_out}]} for left_out in pool]
    strange += [
        ours | {"pools": [pool | {name: wrong}]} for name in pool for wrong in (None, [3], {"counts": [1]}, 1e999)
    ]
    texts = ["", "\0", "[" * 100_000, *map(json.dumps, strange)]
    for number, text in enumerate(texts):
        (board.folder / f"{4_200_000 + number}-1.json").write_text(text)
        (board.folder / f"{5_200_000 + number}-1.counts").write_text(text)
    for number, suffix in enumerate((".json", ".counts", "")):
        os.mkfifo(board.folder / f"{4_100_000 + number}-1{suffix}")
        (board.folder / f"{4_000_000 + number}-1{suffix}").mkdir()
    for text in ("3", "[" * 100_000, '{"names": {}, "pools": [3]}'):
        (board.folder / "ended").write_text(text)
        assert b"Connection pools" in status.page(board.folder)[1]
        assert metrics_page(board.folder)[1]
        assert "no running process" in status.text(board.folder)
        ended.add_up(board.folder, board._replace)
    its = board_of(board.folder)
    assert its is not None
    its.stop()


def test_without_a_folder_the_command_says_what_to_name(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYMYSQLPOOL_BOARD", raising=False)
    with pytest.raises(SystemExit):
        main(["status"])
    assert "PYMYSQLPOOL_BOARD" in capsys.readouterr().err


def test_page_metrics_and_commands_show_all_workers_and_a_drain_reaches_them(
    tmp_path: Path, connect_args: dict[str, Any], capsys: Any
) -> None:
    (tmp_path / "watched.py").write_text(APPLICATION)
    folder = str(tmp_path / "board")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "PYMYSQLPOOL_BOARD": folder,
        "FLASK_PYMYSQLPOOL": json.dumps({**connect_args, "name": "shop", "size": 2, "maxsize": 2}),
    }
    with serving("gunicorn sync", "watched:app", environment, options=["--workers", "2"]) as web:
        workers: set[str] = set()

        def both_have_served() -> bool:
            workers.add(web.ask("GET", "/one")[1])
            return len(workers) == 2

        wait_until(both_have_served, "both workers")

        def shown(path: str) -> str:
            return str(web.ask("GET", path)[1])

        wait_until(lambda: all(pid in shown("/pools/") for pid in workers), "the page with both workers")
        assert str(connect_args["password"]) not in shown("/pools/")
        wait_until(
            lambda: 'db_client_connection_max{db_client_connection_pool_name="shop"} 4.0' in shown("/pools/metrics"),
            "the metrics of both workers",
        )
        assert main(["status", "--folder", folder]) == 0
        said = capsys.readouterr().out
        assert all(f"process {pid}  shop" in said for pid in workers)
        assert "2 processes may have 4 connections at most" in said
        with pytest.raises(SystemExit):
            main(["drain", "--folder", folder, "--pool", "shoop"])
        assert f"no running process has a pool 'shoop' in {folder}; there are: shop" in capsys.readouterr().err
        drained = Flask("drains").test_cli_runner()
        flask = drained.invoke(commands, ["drain", "--folder", folder])
        assert (flask.exit_code, flask.output.splitlines()[-1]) == (0, "2 of 2 workers renew their connections")
        assert main(["drain", "--folder", folder]) == 0
        assert "2 of 2 processes" in capsys.readouterr().out
        wait_until(lambda: 'reason="generation"} 2.0' in shown("/pools/metrics"), "a new connection in each")
    assert main(["status", "--folder", folder]) == 0
    assert f"no running process publishes a pool in {folder}" in capsys.readouterr().out
    assert main(["drain", "--folder", folder]) == 1
    assert "0 of 0 processes" in capsys.readouterr().out
