"""What belongs to an application dies with it; what a request borrows is one lease, in its teardown too; and an error
says what its cause was."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from flask import Flask, appcontext_tearing_down, g

from pymysqlpool_flask import ConfigError, PyMySQLPool

from .conftest import MakeSite, Site, ask


@pytest.mark.parametrize("shared", [False, True])
def test_applications_that_are_dropped_leave_no_pool_and_no_session(
    connect_args: dict[str, Any], admin: Any, shared: bool
) -> None:
    """Also where one extension object serves them all, and with every option that connects a signal."""
    extension = PyMySQLPool()

    def one() -> list[weakref.ref[Any]]:
        app = Flask(__name__)
        options = {"transaction": "request", "deadline": 5, "share_nested_contexts": True}
        app.config["PYMYSQLPOOL"] = {**connect_args, **options}
        db = extension if shared else PyMySQLPool()
        db.init_app(app)
        app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
        assert app.test_client().get("/").status_code == 200
        return [weakref.ref(app), weakref.ref(db.get_pool(app=app))]

    with admin.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Threads_connected'")
        before = int(cursor.fetchone()[1])
        left = [reference for _ in range(25) for reference in one()]
        gc.collect()
        assert not any(reference() for reference in left)
        for _ in range(200):
            cursor.execute("SHOW STATUS LIKE 'Threads_connected'")
            if int(cursor.fetchone()[1]) <= before:
                break
        else:
            pytest.fail("sessions of dropped applications are still there")


@pytest.mark.parametrize("kind", ["teardown_request", "teardown_appcontext", "both"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_teardown_functions_share_one_lease_whatever_their_order(
    connect_args: dict[str, Any], kind: str, order: str
) -> None:
    """With a pool of one, two leases at a time would be a request that waits for itself."""
    app, db, said = Flask(__name__), PyMySQLPool(), []
    app.config["PYMYSQLPOOL"] = {**connect_args, "size": 1, "maxsize": 1, "timeout": 0.2}

    def use(error: BaseException | None) -> None:
        said.append(ask(g.db, "SELECT 1"))

    if order == "after":
        db.init_app(app)
    for name in ("teardown_request", "teardown_appcontext") if kind == "both" else (kind,):
        getattr(app, name)(use)
    if order == "before":
        db.init_app(app)
    app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    assert app.test_client().get("/").status_code == 200
    assert said == ([1, 1] if kind == "both" else [1])
    with db.get_pool(app=app) as pool:
        assert pool.stats().in_use == 0


def test_receivers_of_the_last_signal_may_use_the_connection_in_any_order(site: Site) -> None:
    """Blinker calls receivers in the order of a set."""
    said = []
    receivers = [lambda sender, number=number, **_: said.append(ask(g.db, "SELECT %s", number)) for number in range(20)]
    for receiver in receivers:
        appcontext_tearing_down.connect(receiver, site.app)
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    for _ in range(3):
        said.clear()
        assert site.client.get("/").status_code == 200
        assert sorted(said) == list(range(20))
        assert site.in_use == 0


class _Vault: ...


@pytest.mark.parametrize(
    "option",
    [
        {"password": lambda: _Vault().secret},  # type: ignore[attr-defined]
        {"on_connect": lambda connection: connection.no_such_method()},
    ],
)
def test_a_bug_in_a_callable_is_not_hidden_behind_the_name_on_g(make_site: MakeSite, option: dict[str, Any]) -> None:
    site = make_site(**option)
    with site.app.app_context():
        assert hasattr(g, "db")
        with pytest.raises(AttributeError, match=r"has no attribute '(secret|no_such_method)'"):
            g.db.cursor()
        with pytest.raises(AttributeError, match=r"has no attribute '(secret|no_such_method)'"), g.db:
            pass
        with pytest.raises(AttributeError, match=r"has no attribute '(secret|no_such_method)'"):
            site.db.connection.cursor()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"charset": "utf-8"}, "charset='utf-8'"),
        ({"port": "3306"}, "port='3306'"),
        ({"cursorclass": "DictCursor"}, "cursorclass='DictCursor'"),
        ({"read_timeout": "5"}, "read_timeout='5'"),
        ({"host": "[::1]:3307"}, "host='::1', port=3307"),
        ({"ssl_disabled": "false"}, "ssl_disabled='false' must be True or False"),
        ({"local_infile": "no"}, "local_infile='no' must be True or False"),
        ({"ssl": True}, "ssl=True"),
        ({"init_command": ["SET @a = 1"]}, "init_command="),
        ({"size": 5, "maxsize": 4}, "size=5 is larger than maxsize=4"),
    ],
)
def test_an_argument_is_refused_by_name_when_the_application_is_set_up(option: dict[str, Any], says: str) -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {"host": "127.0.0.1", **option}
    with pytest.raises(ConfigError) as caught:
        PyMySQLPool(app)
    assert says in str(caught.value)
    assert "PYMYSQLPOOL" in str(caught.value)
