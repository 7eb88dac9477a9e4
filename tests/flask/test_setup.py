"""Configuration, several applications, the command line, types (behaviours 43, 51, 52, 53, 54, 55, 56, 57)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from pymysql.err import OperationalError

from pymysqlpool.testing import assert_nothing_borrowed, record, rollback
from pymysqlpool.transaction import transaction
from pymysqlpool_flask import ConfigError, PyMySQLPool
from tests.support import run_threads, wait_until

from .conftest import MakeSite, Site, ask


def test_setting_up_and_flasks_own_commands_connect_to_nothing(tmp_path: Path) -> None:
    """43: nothing answers at port 1, and every attempt to connect would raise."""
    (tmp_path / "shop.py").write_text(
        textwrap.dedent(
            """
            import socket
            def refuse(*a, **k): raise SystemExit("connected!")
            socket.socket.connect = refuse
            from flask import Flask
            from pymysqlpool_flask import PyMySQLPool
            app = Flask(__name__)
            app.config["PYMYSQLPOOL"] = {"host": "127.0.0.1", "port": 1, "pre_create_num": 2}
            PyMySQLPool(app)
            """
        )
    )
    for command in (["--help"], ["routes"]):
        ran = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "shop", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
            capture_output=True,
            text=True,
        )
        assert (ran.returncode, "connected!" in ran.stderr) == (0, False), ran.stderr


def test_the_reloader_and_its_child_connect_to_nothing(tmp_path: Path) -> None:
    """43: the application is imported twice, and serves a page that asks nothing, with the database down."""
    (tmp_path / "shop.py").write_text(
        textwrap.dedent(
            """
            import os
            from flask import Flask
            import pymysqlpool._driver.connector
            def refuse(*a, **k): os.write(2, b"connected!"); os._exit(3)
            pymysqlpool._driver.connector.Connector.make_wire = refuse
            from pymysqlpool_flask import PyMySQLPool
            app = Flask(__name__)
            app.config["PYMYSQLPOOL"] = {"host": "127.0.0.1", "port": 1, "pre_create_num": 2}
            PyMySQLPool(app)
            app.add_url_rule("/", "still", lambda: "still there")
            """
        )
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "said").open("w+") as said:
        ran = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "shop", "run", "--debug", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:

            def page() -> bytes:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                        body: bytes = answer.read()
                        return body
                except OSError:
                    return b""

            assert wait_until(lambda: page() or ran.poll() is not None, "the page", timeout=30) == b"still there"
        finally:
            os.killpg(ran.pid, signal.SIGKILL)  # the reloader and its child
            ran.wait()
        said.seek(0)
        assert "connected!" not in said.read()


def test_one_extension_serves_several_applications(connect_args: dict[str, Any]) -> None:
    """55: nothing of an application is kept in the extension."""
    db = PyMySQLPool()
    apps = []
    for number in (1, 2):
        app = Flask(f"app{number}")
        app.config["PYMYSQLPOOL"] = {**connect_args, "name": f"pool {number}"}
        db.init_app(app)
        app.add_url_rule("/", "index", lambda: f"{db.pool.name} {ask(g.db, 'SELECT 1')}")
        apps.append(app)
    assert [app.test_client().get("/").data for app in apps] == [b"pool 1 1", b"pool 2 1"]
    assert db.get_pool(app=apps[0]) is not db.get_pool(app=apps[1])
    assert not any(isinstance(value, Flask) for value in vars(db).values())
    for app in apps:
        assert "pymysqlpool" in app.extensions
        db.get_pool(app=app).close()


def test_several_extensions_and_applications_in_one_process_keep_apart(make_site: MakeSite) -> None:
    """55: each with its own pools, options and name on `g`."""
    one = make_site(name="one")
    two = make_site(on_g="database", name="two", transaction="request")
    one.app.add_url_rule("/", "index", lambda: f"{one.db.pool.name} {hasattr(g, 'database')} {ask(g.db, 'SELECT 1')}")
    two.app.add_url_rule("/", "index", lambda: f"{two.db.pool.name} {hasattr(g, 'db')} {ask(g.database, 'SELECT 2')}")
    for _ in range(2):
        assert [site.client.get("/").data for site in (one, two)] == [b"one False 1", b"two False 2"]
    with one.app.app_context(), pytest.raises(RuntimeError, match="init_app"):
        _ = two.db.connection


def test_the_same_application_twice_is_refused(site: Site) -> None:
    """55"""
    with pytest.raises(RuntimeError, match="PYMYSQLPOOL_BINDS"):
        PyMySQLPool(site.app)


@pytest.mark.parametrize(("binds", "known"), [({}, "it has none"), ({"reports": {}, "old": {}}, "'old', 'reports'")])
def test_a_name_that_no_database_has_is_told_which_there_are(
    make_site: MakeSite, binds: dict[str, Any], known: str
) -> None:
    site = make_site({"PYMYSQLPOOL_BINDS": binds})
    with pytest.raises(KeyError) as caught:
        site.db.get_pool("report", app=site.app)
    (message,) = caught.value.args
    assert "PYMYSQLPOOL_BINDS has no database 'report'" in message
    assert known in message
    assert "None" not in message


def test_an_extension_that_was_not_set_up_for_the_application_says_so(site: Site) -> None:
    with site.app.app_context(), pytest.raises(RuntimeError, match="init_app"):
        _ = PyMySQLPool().pool


def test_further_databases_have_names_of_their_own_on_g(make_site: MakeSite, connect_args: dict[str, Any]) -> None:
    """55"""
    binds = {"reports": {**connect_args, "size": 1}, "old": {**connect_args, "g_name": "archive"}}
    site = make_site({"PYMYSQLPOOL_BINDS": binds}, on_g="main")

    @site.app.get("/")
    def index() -> Any:
        g_ = g
        return {
            "sessions": len({g_.main.thread_id(), g_.reports.thread_id(), g_.archive.thread_id()}),
            "same": g_.reports is site.db.get_connection("reports"),
            "db": hasattr(g, "db"),
        }

    assert site.client.get("/").json == {"sessions": 3, "same": True, "db": False}
    with site.app.app_context():
        for bind in ("reports", "old"):
            assert site.db.get_pool(bind).stats().in_use == 0
            site.db.get_pool(bind).close()
        with pytest.raises(KeyError, match="nowhere"):
            site.db.get_pool("nowhere")


def test_the_environment_configures_it(connect_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """from_prefixed_env makes the keys upper case and the values what JSON makes of them."""
    for key in ("host", "port", "user", "password", "database"):
        monkeypatch.setenv(f"FLASK_PYMYSQLPOOL__{key.upper()}", str(connect_args[key]))
    app = Flask(__name__)
    app.config.from_prefixed_env()
    db = PyMySQLPool(app)
    app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    assert app.test_client().get("/").data == b"1"
    db.get_pool(app=app).close()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({}, "PYMYSQLPOOL"),
        ({"PYMYSQLPOOL": {"hots": "x"}}, "hots"),
        ({"PYMYSQLPOOL": {"maxsize": 0}}, "maxsize=0"),
        ({"PYMYSQLPOOL": {"transaction": "always"}}, "transaction='always'"),
        ({"PYMYSQLPOOL": {"password": 1234}}, "password"),
        ({"PYMYSQLPOOL": {"HOST": "a", "host": "b"}}, "'host' twice"),
        ({"PYMYSQLPOOL": {"g_name": "get"}}, "g_name='get'"),
        ({"PYMYSQLPOOL": ["host"]}, "must be a dict"),
        ({"PYMYSQLPOOL_BINDS": {1: {}}}, "has the key 1"),
        ({"PYMYSQLPOOL": {"autocommit": "False"}}, "autocommit='False' is text"),
        ({"PYMYSQLPOOL_BINDS": {"r": {"retry_after": 3}}}, "retry_after"),
        ({"PYMYSQLPOOL": {}, "PYMYSQLPOOL_BINDS": {"db": {}}}, "same name on g"),
    ],
)
def test_what_is_wrong_in_the_config_is_refused_by_name(config: dict[str, Any], named: str) -> None:
    """Invariant 17"""
    app = Flask(__name__)
    app.config.update(config)
    with pytest.raises(ConfigError, match=named):
        PyMySQLPool(app)
    assert "pymysqlpool" not in app.extensions


def test_a_request_does_not_wait_for_ever_by_default(connect_args: dict[str, Any]) -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = dict(connect_args)
    PyMySQLPool(app)
    assert app.extensions["pymysqlpool"].binds[None].pool["timeout"] == 10
    assert "timeout" not in app.config["PYMYSQLPOOL"]


def test_pool_status_masks_what_is_secret_and_pool_ping_says_which_servers_answer(make_site: MakeSite) -> None:
    """51"""
    site = make_site(init_command="SET @secret = 'hunter2'")
    site.app.extensions["pymysqlpool"].binds[None].pool["read_default_file"] = "/hunter2"
    run = site.app.test_cli_runner().invoke
    status = run(args=["pool", "status"])
    assert status.exit_code == 0
    assert "maxsize = 2" in status.output
    assert "password = ***" in status.output
    assert "hunter2" not in status.output
    del site.app.extensions["pymysqlpool"].binds[None].pool["read_default_file"]
    assert site.pool.stats().created == 0
    ping = run(args=["pool", "ping"])
    assert (ping.exit_code, "answered in" in ping.output) == (0, True)
    assert run(args=["pool", "ping", "--bind", "nowhere"]).exit_code == 2


def test_pool_ping_fails_when_the_server_does_not_answer(make_site: MakeSite) -> None:
    """51"""
    site = make_site(host="127.0.0.1", port=1, timeout=0.1)
    ping = site.app.test_cli_runner().invoke(args=["pool", "ping"])
    assert (ping.exit_code, "does not answer" in ping.output) == (1, True)


def test_a_command_gives_its_connection_back_however_it_ends(site: Site) -> None:
    """51"""

    @site.app.cli.command("work")
    def work() -> None:
        ask(site.db.connection, "SELECT 1")
        raise SystemExit(0)

    @site.app.cli.command("fail")
    def fail() -> None:
        ask(site.db.connection, "SELECT 1")
        raise KeyError

    runner = site.app.test_cli_runner()
    assert runner.invoke(args=["work"]).exit_code == 0
    assert runner.invoke(args=["fail"]).exit_code == 1
    assert site.in_use == 0


def test_the_shell_knows_the_extension(site: Site) -> None:
    """52"""
    assert site.app.make_shell_context()["db"] is site.db


@pytest.fixture
def long_shell(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """As if hours lay between any two lines that are typed."""
    monkeypatch.setattr("pymysqlpool_flask.state._REVALIDATE", 0.0)
    return site


def test_a_connection_that_died_in_a_long_shell_is_replaced_before_its_next_use(long_shell: Site, admin: Any) -> None:
    """52: an open transaction that died with it is told first."""
    with long_shell.app.app_context():
        first = g.db.thread_id()
        assert g.db.thread_id() == first  # a living one stays
        _end_session(admin, first)
        second = g.db.thread_id()
        assert second != first
        assert ask(g.db, "SELECT 2") == 2
        g.db.begin()
        _end_session(admin, second)
        with pytest.raises(OperationalError, match="nothing uncommitted was kept") as told:
            _ = g.db
        assert told.value.args[0] == 2006
        assert ask(g.db, "SELECT 3") == 3


def test_a_statement_that_finds_its_session_dead_in_a_shell_costs_one_error(site: Site, admin: Any) -> None:
    """52: within the first seconds of idleness nothing is asked; afterwards the next use has a new session."""
    with site.app.app_context():
        _end_session(admin, g.db.thread_id())
        with pytest.raises(OperationalError):
            ask(g.db, "SELECT 1")
        assert ask(g.db, "SELECT 2") == 2


def _end_session(admin: Any, number: int) -> None:
    admin.kill(number)
    wait_until(lambda: not ask(admin, "SELECT 1 FROM information_schema.processlist WHERE id = %s", number), "killed")


def test_a_rollback_around_a_test_undoes_what_requests_committed(site: Site, table: Any) -> None:
    """53, 54"""

    @site.app.get("/")
    def index() -> str:
        with site.db.transaction():
            ask(g.db, "INSERT INTO item VALUES (1)")
        ask(g.db, "INSERT INTO item VALUES (2)")  # not committed
        return "ok"

    site.app.add_url_rule("/count", "count", lambda: str(ask(g.db, "SELECT COUNT(*) FROM item")))
    with assert_nothing_borrowed(site.pool), rollback(site.pool):
        assert site.client.get("/").status_code == 200
        with record(site.pool) as queries:
            assert site.client.get("/count").data == b"1"
        assert [query.statement for query in queries] == ["SELECT COUNT(*) FROM item"]
    assert table() == []
    assert site.client.get("/count").data == b"0"


def test_a_rollback_covers_several_databases_nested_contexts_and_threads(
    make_site: MakeSite, connect_args: dict[str, Any], table: Any
) -> None:
    """53: and afterwards the pools are as they were."""
    site = make_site({"PYMYSQLPOOL_BINDS": {"other": {**connect_args, "timeout": 5}}})

    @site.app.get("/<int:number>")
    def index(number: int) -> str:
        for connection in (g.db, g.other):
            with transaction(connection):
                ask(connection, "INSERT INTO item VALUES (%s)", number if connection is g.db else number + 100)
        with site.app.app_context():  # a lease of its own, onto the same session
            return str(ask(g.db, "SELECT COUNT(*) FROM item"))

    with site.app.app_context():
        other = site.db.get_pool("other")
    with rollback(site.pool), rollback(other):
        assert site.client.get("/1").data == b"1"
        told = run_threads(3, lambda index: int(site.client.get(f"/{index + 2}").data))
        assert sorted(told) == [2, 3, 4]
    assert table() == []
    assert {"get_connection", "_give_back"} & {*vars(site.pool), *vars(other)} == set()
    assert site.client.get("/1").data == b"2"
    assert (table(), other.stats().in_use) == ([1, 101], 0)
    other.close()


TYPED = """
from typing import cast
import flask
from flask import Flask
from pymysqlpool import Connection
from pymysqlpool_flask import PoolGlobals, PyMySQLPool, g

class Globals(PoolGlobals):
    # PYMYSQLPOOL_BINDS = {"reports": ...}

    @property
    def reports(self) -> Connection:
        raise NotImplementedError

db = PyMySQLPool(Flask("x"))
reveal_type(cast(Globals, flask.g).reports)
reveal_type(db.connection)
reveal_type(db.pool)
reveal_type(g.db)
with db.transaction() as connection:
    reveal_type(connection)
"""


@pytest.mark.parametrize(
    "checker",
    [["mypy", "--strict", "--no-incremental"], ["pyright", "--pythonpath", sys.executable]],
    ids=["mypy", "pyright"],
)
def test_type_checkers_know_what_db_and_g_are(tmp_path: Path, checker: list[str]) -> None:
    """56"""
    if checker[0] == "pyright":
        pytest.importorskip("pyright", reason="pip install pyright")
    (tmp_path / "typed.py").write_text(TYPED)
    ran = subprocess.run(
        [sys.executable, "-m", *checker, "typed.py"], cwd=tmp_path, capture_output=True, text=True, timeout=55
    )
    revealed = [line for line in ran.stdout.splitlines() if "evealed type" in line or "Type of" in line]
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(revealed) == 5
    assert all("Connection" in line for line in revealed)
