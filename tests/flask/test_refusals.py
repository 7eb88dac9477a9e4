"""The status is true: 503 with Retry-After for what another try may cure, however it is wrapped, and for nothing else;
and the error handlers of the application go first, the general ones too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from flask import Blueprint, Flask, g
from pymysql import err

from pymysqlpool import PoolTimeout, PoolUnavailable
from pymysqlpool.errors import AmbiguousPrimary
from pymysqlpool_flask import PyMySQLPool

from .conftest import MakeSite, Site, ask

CANNOT_NOW = [
    PoolTimeout("busy"),
    PoolUnavailable("down"),
    AmbiguousPrimary("two say so"),
    err.OperationalError(2013, "Lost connection to MySQL server during query"),
    err.OperationalError(1047, "WSREP has not yet prepared node for application use"),
    err.OperationalError(1180, "Error (provider status: Not connected to Primary Component)"),
    err.OperationalError(1290, "The MySQL server is running with the --read-only option so it cannot execute this"),
    err.OperationalError(1792, "Cannot execute statement in a READ ONLY transaction"),
    err.OperationalError(1836, "Running in read-only mode"),
    err.OperationalError(1053, "Server shutdown in progress"),
    err.OperationalError(1213, "Deadlock found when trying to get lock; try restarting transaction"),
]
OTHERS = [
    err.OperationalError(1290, "The MySQL server is running with the --secure-file-priv option"),
    err.OperationalError(1153, "Got a packet bigger than 'max_allowed_packet' bytes"),
    err.OperationalError(1045, "Access denied for user"),
    err.OperationalError(1205, "Lock wait timeout exceeded"),
    err.ProgrammingError(1064, "You have an error in your SQL syntax"),
    err.IntegrityError(1062, "Duplicate entry"),
]


class _Wrapped(Exception):
    """As SQLAlchemy's `DBAPIError`."""

    def __init__(self, orig: BaseException) -> None:
        super().__init__("wrapped")
        self.orig = orig


def _as_it_is(error: Exception) -> None:
    raise error


def _in_orig(error: Exception) -> None:
    raise _Wrapped(error)


def _as_cause(error: Exception) -> None:
    raise RuntimeError("the repository failed") from error


@pytest.mark.parametrize("how", [_as_it_is, _in_orig, _as_cause])
@pytest.mark.parametrize(
    ("error", "status"),
    [*((error, 503) for error in CANNOT_NOW), *((error, 500) for error in OTHERS)],
    ids=lambda value: f"{type(value).__name__} {value.args[0]}" if isinstance(value, Exception) else None,
)
def test_the_status_says_whether_to_come_back(
    site: Site, error: Exception, status: int, how: Callable[[Exception], None]
) -> None:
    site.app.add_url_rule("/", "index", lambda: how(error))
    answer = site.client.get("/")
    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.parametrize("kind", [PoolTimeout, err.OperationalError, pymysql.Error, Exception])
@pytest.mark.parametrize("error", [CANNOT_NOW[0], CANNOT_NOW[2], OTHERS[3]], ids=["busy", "lost", "lock"])
@pytest.mark.parametrize("on", ["application", "blueprint"])
def test_an_error_handler_of_the_application_goes_first(site: Site, kind: Any, error: Exception, on: str) -> None:
    part = Blueprint("part", __name__)
    part.add_url_rule("/", "index", lambda: _as_it_is(error))
    (site.app if on == "application" else part).register_error_handler(kind, lambda error: ("my own", 418))
    site.app.register_blueprint(part)
    answer = site.client.get("/")
    if isinstance(error, kind):
        assert (answer.status_code, answer.data) == (418, b"my own")
    else:
        assert answer.status_code == (500 if error is OTHERS[3] else 503)


def test_a_500_that_the_application_answers_by_a_general_handler_stays(make_site: MakeSite) -> None:
    """Its page says what it wants to; the wrapped error has been handled."""
    site = make_site(size=1, maxsize=1, pre_create_num=1, timeout=0.05)
    site.app.register_error_handler(Exception, lambda error: ("my page", 500))
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    with site.pool.get_connection(timeout=20):
        assert site.client.get("/").data == b"my page"


def test_an_unrelated_error_after_a_refusal_that_the_view_took_is_a_500(make_site: MakeSite) -> None:
    site = make_site(size=1, maxsize=1, pre_create_num=1, timeout=0.05)

    @site.app.get("/")
    def index() -> str:
        with pytest.raises(PoolTimeout):
            g.db.ping()
        raise KeyError("a bug")

    with site.pool.get_connection(timeout=20):
        assert site.client.get("/").status_code == 500


def _restx(app: Flask) -> Any:
    restx = pytest.importorskip("flask_restx")
    return restx.Api(app, doc=False), restx.Resource


def _restful(app: Flask) -> Any:
    restful = pytest.importorskip("flask_restful")
    return restful.Api(app), restful.Resource


@pytest.mark.parametrize("framework", [_restx, _restful])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", [False, True], ids=["no page of its own", "a page for 503"])
def test_frameworks_that_answer_errors_themselves_say_503_too(make_site: MakeSite, framework: Any, page: bool) -> None:
    site = make_site(size=1, maxsize=1, pre_create_num=1, timeout=0.05, retry_after=5)
    if page:
        site.app.register_error_handler(503, lambda error: ({"try": "later"}, 503))
    api, resource = framework(site.app)

    class Items(resource):  # type: ignore[misc]
        def get(self, kind: str) -> Any:
            if kind == "bug":
                raise KeyError
            return ask(g.db, "SELECT 1")

    api.add_resource(Items, "/items/<kind>")
    assert site.client.get("/items/all").json == 1
    with site.pool.get_connection(timeout=20):
        answer = site.client.get("/items/all")
        assert site.client.get("/items/bug").status_code == 500
    assert answer.status_code == 503
    if page:
        assert answer.json == {"try": "later"}
    else:
        assert answer.headers["Retry-After"] == "5"


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
def test_sqlalchemy_over_a_pool_that_is_down_is_a_503() -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {"host": "127.0.0.1", "port": 1, "timeout": 0.1}
    db = PyMySQLPool(app)
    engine = sqlalchemy.create_engine(
        "mysql+pymysql://",
        creator=lambda: db.get_pool(app=app).get_connection(),
        poolclass=sqlalchemy.pool.NullPool,
    )

    @app.get("/")
    def index() -> str:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
        return ""

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
