"""The middleware against PEP 3333, `wsgiref.validate` on both sides (behaviours 1 to 4, 11, 18 to 20, 24, 44, 48)."""

from __future__ import annotations

import gc
import io
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pymysql
import pytest
from pymysql.cursors import SSCursor

from pymysqlpool import ConnectionPool, GetConnectionFromPoolError, PoolTimeout
from pymysqlpool.request_scope import NoRequestScopeError, current_connection
from pymysqlpool.wsgi import PoolMiddleware
from tests.conftest import MakePool

Application = Callable[..., Iterable[bytes]]
TEXT = [("Content-Type", "text/plain")]


class Served:
    """What a server saw of one request. As PEP 3333 has it: the head goes out with the first byte."""

    def __init__(
        self, application: Application, *, strict: bool = True, take: int | None = None, **environ: Any
    ) -> None:
        self.environ: dict[str, Any] = {"QUERY_STRING": "", **environ}
        setup_testing_defaults(self.environ)
        self.status, self.headers, self.body, self.sent = "", [], b"", False
        self.error: BaseException | None = None
        self._application = validator(application) if strict else application
        self.result: Any = None
        try:
            self.result = self._application(self.environ, self.start_response)
            for number, chunk in enumerate(self.result):
                self.write(chunk)
                if take is not None and number + 1 >= take:
                    break
        except BaseException as error:  # noqa: BLE001 - the server answers 500 then
            self.error = error
        finally:
            if hasattr(self.result, "close"):
                self.result.close()

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        if exc_info and self.sent:
            raise exc_info[1]
        assert exc_info or not self.status, "started twice"
        self.status, self.headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        assert self.status, "a body before its head"
        self.sent = self.sent or bool(data)
        self.body += data


def wrapped(application: Application, pool: ConnectionPool, **options: Any) -> Application:
    """The middleware, validated on the side of the application too."""
    return PoolMiddleware(validator(application), pool, **options)  # type: ignore[arg-type]


def plain(application: Application, pool: ConnectionPool, **options: Any) -> Application:
    return PoolMiddleware(application, pool, **options)  # type: ignore[arg-type]


def one(pool: ConnectionPool) -> bytes:
    with current_connection(pool).cursor() as cursor:
        cursor.execute("SELECT 1")
        return str(cursor.fetchone()[0]).encode()


def test_a_request_that_never_asks_borrows_nothing(make_pool: Callable[..., ConnectionPool]) -> None:
    """1: also with the database down."""
    pool = make_pool(host="127.0.0.1", port=1)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [b"still"]

    assert Served(wrapped(application, pool)).body == b"still"
    assert pool.stats().connect_errors == 0


def test_a_list_is_handed_on_untouched_and_its_lease_released_before_it_is_sent(pool: ConnectionPool) -> None:
    """2, 18"""
    body = [b"1", b"2"]

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        assert one(pool) == b"1"
        assert environ["pymysqlpool.scope"].connection() is current_connection(pool)
        start_response("200 OK", TEXT)
        return body

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    assert plain(application, pool)(environ, lambda *_: lambda data: None) is body
    assert pool.stats().in_use == 0
    assert Served(wrapped(application, pool)).body == b"12"
    assert pool.stats().borrowed == 2


def test_a_file_wrapper_is_handed_on_untouched(pool: ConnectionPool) -> None:
    """18: servers look for their own type, to use sendfile()."""

    def application(environ: Any, start_response: Any) -> Any:
        one(pool)
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"a file"))

    served = Served(plain(application, pool), strict=False, **{"wsgi.file_wrapper": FileWrapper})
    assert isinstance(served.result, FileWrapper)
    assert (served.body, pool.stats().in_use) == (b"a file", 0)


class Body:
    """An iterable with a close(), as frameworks return it."""

    def __init__(self, pool: ConnectionPool, fails: bool = False) -> None:
        self.pool, self.fails, self.closed = pool, fails, 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(3):
            yield one(self.pool)
        if self.fails:
            raise KeyError

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("take", [None, 1])
def test_a_body_made_on_the_way_holds_its_lease_to_its_end_and_close_is_forwarded(
    pool: ConnectionPool, fails: bool, take: int | None
) -> None:
    """4, 18, 19, 20: exhausted, failed, or closed early when the client has gone."""
    body = Body(pool, fails)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return body

    served = Served(wrapped(application, pool), take=take)
    assert served.body == (b"111" if take is None else b"1")
    assert isinstance(served.error, KeyError) == (fails and take is None)
    now = pool.stats()
    assert (body.closed, now.in_use, now.borrowed, now.returned) == (1, 0, 1, 1)


def test_a_body_is_released_at_its_end_where_the_server_never_calls_close(pool: ConnectionPool) -> None:
    """19"""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return Body(pool)

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    result = iter(plain(application, pool)(environ, lambda *_: lambda data: None))
    assert next(result) == b"1"
    assert pool.stats().in_use == 1
    assert list(result) == [b"1", b"1"]
    assert pool.stats().in_use == 0


def test_a_body_that_is_dropped_is_released_by_the_collector(pool: ConnectionPool) -> None:
    """19: the pool takes the lease back, and says where it was borrowed."""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return Body(pool)

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    result = iter(plain(application, pool)(environ, lambda *_: lambda data: None))
    assert next(result) == b"1"
    del result
    environ.clear()
    gc.collect()
    with pool.get_connection(), pool.get_connection():  # both of two can be had
        pass
    assert (pool.stats().in_use, pool.stats().leaked) == (0, 1)


@pytest.mark.parametrize("error", [KeyError, SystemExit, GeneratorExit])
def test_an_exception_passes_through_and_the_connection_goes_back(
    pool: ConnectionPool, error: type[BaseException]
) -> None:
    """3"""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        one(pool)
        raise error

    assert isinstance(Served(wrapped(application, pool)).error, error)
    assert pool.stats().in_use == 0


def test_write_works_and_the_commit_comes_before_its_first_byte(
    pool: ConnectionPool, table: Callable[[], list[int]]
) -> None:
    """24"""
    seen = []

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        current_connection(pool).query("INSERT INTO item VALUES (1)")
        write(b"by hand ")
        seen.append(table())
        return [b"and by list"]

    assert Served(wrapped(application, pool, transaction="request")).body == b"by hand and by list"
    assert seen == [[1]]


@pytest.mark.parametrize(("status", "kept"), [("200 OK", [1]), ("302 Found", [1]), ("404 No", []), ("500 No", [])])
@pytest.mark.parametrize("lazily", [False, True], ids=["list", "generator"])
def test_a_request_is_committed_below_400_and_rolled_back_otherwise(
    pool: ConnectionPool, table: Callable[[], list[int]], status: str, kept: list[int], lazily: bool
) -> None:
    """24: also where the head comes with the first chunk of a generator."""

    def work(start_response: Any) -> Iterator[bytes]:
        current_connection(pool).query("INSERT INTO item VALUES (1)")
        start_response(status, TEXT)
        yield b"x"

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        return work(start_response) if lazily else list(work(start_response))

    assert Served(plain(application, pool, transaction="request"), strict=False).status == status
    assert table() == kept


def test_a_commit_that_fails_is_an_error_before_the_head_is_sent(
    pool: ConnectionPool, table: Callable[[], list[int]], admin: Any
) -> None:
    """24"""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        current_connection(pool).query("INSERT INTO item VALUES (1)")
        admin.kill(current_connection(pool).thread_id())
        start_response("200 OK", TEXT)
        return [b"all is well"]

    served = Served(wrapped(application, pool, transaction="request"))
    assert served.error is not None
    assert (served.sent, table()) == (False, [])


@pytest.mark.parametrize("writes", [False, True])
def test_a_body_that_has_begun_to_read_goes_on_reading_unless_there_is_something_to_commit(
    pool: ConnectionPool, table: Callable[[], list[int]], writes: bool
) -> None:
    """24, 26: Bottle takes the first chunk of a generator before the head goes out."""

    def rows() -> Iterator[bytes]:
        with current_connection(pool).cursor(SSCursor) as cursor:
            cursor.execute("SELECT 7 UNION ALL SELECT 8")
            for (number,) in cursor:
                yield str(number).encode()

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        if writes:
            current_connection(pool).query("INSERT INTO item VALUES (1)")
        start_response("200 OK", TEXT)
        chunks = rows()
        return itertools.chain([next(chunks)], chunks)

    served = Served(plain(application, pool, transaction="request"))
    if writes:
        assert "half read" in str(served.error)
        assert (served.sent, table()) == (False, [])
    else:
        assert (served.error, served.body) == (None, b"78")


def test_installed_twice_there_is_one_lease(pool: ConnectionPool) -> None:
    """11"""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [one(pool)]

    assert Served(wrapped(wrapped(application, pool), pool)).body == b"1"
    assert pool.stats().borrowed == 1


@pytest.mark.parametrize("between", [False, True], ids=["at once", "after a layer between that borrows"])
@pytest.mark.parametrize(("outer", "inner"), [("request", None), (None, "request"), ("request", "request")])
@pytest.mark.parametrize(("status", "kept"), [("200 OK", [1]), ("409 Conflict", [])])
def test_installed_twice_the_transaction_of_either_is_the_requests(
    pool: ConnectionPool,
    table: Callable[[], list[int]],
    between: bool,
    outer: Any,
    inner: Any,
    status: str,
    kept: list[int],
) -> None:
    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        current_connection(pool).execute("INSERT INTO item VALUES (1)")
        start_response(status, TEXT)
        return [b"done"]

    mounted = wrapped(application, pool, transaction=inner)

    def layer(environ: Any, start_response: Any) -> Iterable[bytes]:
        if between:
            one(pool)
        return mounted(environ, start_response)

    assert Served(wrapped(layer, pool, transaction=outer)).body == b"done"
    assert table() == kept
    assert pool.stats().in_use == 0


def test_around_a_dispatcher_and_around_what_it_mounts_there_is_one_lease(pool: ConnectionPool) -> None:
    """11"""
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [one(pool), str(environ["pymysqlpool.scope"].connection() is current_connection()).encode()]

    mounts: Any = {"/inner": plain(application, pool)}
    outer = plain(DispatcherMiddleware(plain(application, pool), mounts), pool)  # type: ignore[arg-type]
    for path in ("/", "/inner/"):
        served = Served(outer, SCRIPT_NAME="", PATH_INFO=path)
        assert (served.error, served.body) == (None, b"1True")
    assert (pool.stats().borrowed, pool.stats().in_use) == (2, 0)


@pytest.mark.parametrize("writes", [False, True])
def test_a_body_that_finds_no_connection_after_a_commit_does_not_ask_to_try_again(
    make_pool: Callable[..., ConnectionPool], table: Callable[[], list[int]], writes: bool
) -> None:
    """A client that sent the request once more, as a 503 asks for, would write twice."""
    pool = make_pool(size=1, maxsize=1, pre_create_num=1, timeout=0.05)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        if writes:
            current_connection(pool).cursor().execute("INSERT INTO item VALUES (1)")
        start_response("200 OK", TEXT)
        return lines()

    def lines() -> Iterator[bytes]:
        with pool.get_connection(), pool.get_connection():
            yield b"never"

    served = Served(plain(application, pool, transaction="request"))
    assert (served.status[:3], type(served.error)) == (("200", PoolTimeout) if writes else ("503", type(None)))
    assert (served.sent, table()) == (not writes, [1] if writes else [])


@pytest.mark.parametrize("lazily", [False, True])
def test_an_exhausted_pool_is_a_503_with_retry_after(make_pool: Callable[..., ConnectionPool], lazily: bool) -> None:
    """44: unless something was sent already."""
    pool = make_pool(size=1, maxsize=1, pre_create_num=1, timeout=0.05)

    def work(start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield one(pool)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        return work(start_response) if lazily else list(work(start_response))

    with pool.get_connection(timeout=20):
        served = Served(plain(application, pool, retry_after=3))
    assert (served.status[:3], dict(served.headers)["Retry-After"]) == ("503", "3")

    def late(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        yield b"sent "
        yield one(pool)

    with pool.get_connection(timeout=20):
        served = Served(plain(late, pool))
    assert (served.status, served.body) == ("200 OK", b"sent ")
    assert served.error is not None


def test_refused_requests_make_a_line_a_second_and_pool_and_the_metric_counts_all(
    make_pool: Callable[..., ConnectionPool], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """45: busy pools hide neither each other nor a server that is out of reach."""
    now = [1000.0]
    monkeypatch.setattr("pymysqlpool.refusals.monotonic", lambda: now[0])
    pool, other = (make_pool(size=1, maxsize=1, timeout=5, max_waiting=0, name=name) for name in ("A", "B"))
    gone = make_pool(port=1, timeout=0.05, name="A")
    wanted = [pool]

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [one(wanted[0])]

    application = plain(application, pool)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if "answered 503" in record.getMessage()]

    with pool.get_connection(timeout=20), other.get_connection(timeout=20):
        for _ in range(10):
            assert Served(application).status[:3] == "503"
        assert len(lines()) == 1
        for wanted[0] in (other, gone, other, gone, pool):
            assert Served(application).status[:3] == "503"
        assert [("pool(A)" in line, "reached" in line) for line in lines()] == [
            (True, False),
            (False, False),
            (True, True),
        ]
        now[0] += 1
        Served(application)
    assert "and so were 10 others in the 1.0 s" in lines()[3]
    assert (pool.stats().rejected, other.stats().rejected, gone.stats().rejected) == (12, 2, 0)


def _framework(name: str, pool: ConnectionPool, handled: bool) -> Any:
    """An application with one view that wants a connection; `handled`: with an own answer where there is none."""
    if name == "flask":
        import flask

        app = flask.Flask(name)
        app.add_url_rule("/", "index", lambda: one(pool))
        if handled:
            app.register_error_handler(GetConnectionFromPoolError, lambda error: ("our own answer", 429))
        return app
    if name == "bottle":
        bottle = pytest.importorskip("bottle")
        app = bottle.Bottle()

        def view() -> bytes:
            try:
                return one(pool)
            except GetConnectionFromPoolError:
                if not handled:
                    raise
                raise bottle.HTTPResponse("our own answer", 429) from None

        app.route("/", ["GET", "HEAD"], view)
        return app
    falcon = pytest.importorskip("falcon")

    class View:
        def on_get(self, request: Any, response: Any) -> None:
            response.data = one(pool)

        on_head = on_get

    def handle(request: Any, response: Any, error: Any, parameters: Any) -> None:
        response.status, response.data = 429, b"our own answer"

    app = falcon.App()
    app.add_route("/", View())
    if handled:
        app.add_error_handler(GetConnectionFromPoolError, handle)
    return app


@pytest.mark.parametrize("handled", [False, True], ids=["unhandled", "handled"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("framework", ["flask", "bottle", "falcon"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_500_that_a_framework_makes_of_an_exhausted_pool_is_a_503_and_an_own_answer_stays(
    make_pool: Callable[..., ConnectionPool], framework: str, method: str, handled: bool, capsys: Any
) -> None:
    """44: the frameworks keep the exception to themselves, so the middleware never sees it."""
    pool = make_pool(size=1, maxsize=1, pre_create_num=1, timeout=0.05)
    application = plain(_framework(framework, pool, handled), pool, retry_after=3)
    with pool.get_connection(timeout=20):
        served = Served(validator(application), strict=False, REQUEST_METHOD=method)
    headers = dict(served.headers)
    if handled:
        assert served.status[:3] == "429"
        assert method == "HEAD" or served.body == b"our own answer"
    else:
        assert (served.status[:3], headers["Retry-After"], served.error) == ("503", "3", None)
        assert (b"busy" in served.body) == (method == "GET")
    assert Served(application, strict=False, REQUEST_METHOD=method).status[:3] == "200"


def test_a_500_of_a_generator_that_comes_with_the_first_chunk_is_replaced_too(
    make_pool: Callable[..., ConnectionPool],
) -> None:
    """44: and what else it would have sent is dropped, and it is closed."""
    pool = make_pool(size=1, maxsize=1, pre_create_num=1, timeout=0.05)
    closed = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        try:
            try:
                yield one(pool)
            except GetConnectionFromPoolError:
                start_response("500 Internal Server Error", TEXT)
                yield b"an error page"
                yield b" in two parts"
        finally:
            closed.append(True)

    with pool.get_connection(timeout=20):
        served = Served(plain(application, pool), strict=False)
    assert (served.status[:3], b"busy" in served.body, b"page" in served.body) == ("503", True, False)
    assert closed == [True]


def test_a_500_that_has_nothing_to_do_with_the_pool_stays(pool: ConnectionPool) -> None:
    """44"""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        one(pool)
        start_response("500 Internal Server Error", TEXT)
        return [b"an error page"]

    served = Served(wrapped(application, pool))
    assert (served.status[:3], served.body) == ("500", b"an error page")


def test_a_requests_deadline_bounds_all_its_waits_together(make_pool: Callable[..., ConnectionPool]) -> None:
    """47"""
    pools = [make_pool(size=1, maxsize=1, timeout=30) for _ in range(2)]

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        for pool in (*pools, *pools):
            with pytest.raises(GetConnectionFromPoolError):
                current_connection(pool)
        start_response("200 OK", TEXT)
        return [b"said"]

    with pools[0].get_connection(), pools[1].get_connection():
        for environ in ({}, {"pymysqlpool.deadline": time.monotonic() + 0.1}):
            started = time.monotonic()
            assert Served(wrapped(application, pools[0], deadline=0.2), **environ).body == b"said"
            assert time.monotonic() - started < 5


@pytest.mark.parametrize(("method", "kept"), [("GET", []), ("HEAD", []), ("POST", [1])])
def test_requests_that_only_ask_may_be_left_out_of_the_transaction(
    pool: ConnectionPool, table: Callable[[], list[int]], method: str, kept: list[int]
) -> None:
    """25"""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        current_connection(pool).query("INSERT INTO item VALUES (1)")
        start_response("200 OK", TEXT)
        return [b""]

    options: dict[str, Any] = {"transaction": "request", "transaction_on_get": False}
    assert Served(wrapped(application, pool, **options), REQUEST_METHOD=method).error is None
    assert table() == kept


def test_server_timing_on_request(pool: ConnectionPool) -> None:
    """48"""

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        body = one(pool) and one(pool)
        start_response("200 OK", TEXT)
        return [body]

    timing = dict(Served(wrapped(application, pool, server_timing=True)).headers)["Server-Timing"]
    assert re.fullmatch(r'dbwait;dur=[\d.]+, db;dur=[\d.]+;desc="2 queries"', timing)
    assert dict(Served(wrapped(application, pool)).headers) == dict(TEXT)


def test_outside_of_a_request_the_error_names_the_way_out(pool: ConnectionPool) -> None:
    """37"""
    with pytest.raises(NoRequestScopeError, match=r"pool\.scope"):
        current_connection(pool)


@pytest.mark.parametrize("pool", [None, "mysql://me:hunter2@db", {"password": "hunter2"}, ConnectionPool], ids=type)
def test_what_is_no_pool_is_refused_when_the_middleware_is_made_without_its_password(pool: Any) -> None:
    with pytest.raises(TypeError, match="needs a ConnectionPool, not") as caught:
        PoolMiddleware(lambda environ, start_response: [], pool)
    assert "hunter2" not in str(caught.value)


def test_an_application_and_a_pool_in_the_wrong_order_are_told(make_pool: MakePool) -> None:
    with pytest.raises(TypeError, match="is no WSGI application"):
        PoolMiddleware(make_pool(), lambda environ, start_response: [])  # type: ignore[arg-type]


@pytest.mark.parametrize("framework", [False, True], ids=["raised", "made a 500"])
def test_a_connection_that_is_lost_in_a_request_is_a_503(make_pool: MakePool, admin: Any, framework: bool) -> None:
    pool = make_pool()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        connection = current_connection(pool)
        admin.kill(connection.thread_id())
        try:
            connection.execute("DO SLEEP(10)")
        except pymysql.Error:
            if not framework:
                raise
            start_response("500 Internal Server Error", [])
        return [b"a page"]

    served = Served(plain(application, pool), strict=False)
    assert (served.status[:3], dict(served.headers)["Retry-After"]) == ("503", "1")
    assert b"try again soon" in served.body
    assert pool.stats().in_use == 0


def test_an_error_that_waiting_does_not_cure_is_no_503(make_pool: MakePool) -> None:
    pool = make_pool()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        current_connection(pool).execute("SELECT nonsense FROM nowhere")
        return []

    served = Served(plain(application, pool))
    assert isinstance(served.error, pymysql.err.ProgrammingError)
    assert served.status == ""
