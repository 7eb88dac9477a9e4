"""Reads that follow a write of an earlier request of the same visitor: a primary, and a replica that is an hour late.

Each application answers POST /N with a write of row N, and GET /N with whether `cluster.replica` shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from itertools import count
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

import pytest
from flask import Flask, g

from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware as AsgiMiddleware
from pymysqlpool.asgi import current_async_connection
from pymysqlpool.carried_commits import CarriedCommits, CommitCookie, CommitHeader
from pymysqlpool.cluster import Cluster
from pymysqlpool.request_scope import current_connection
from pymysqlpool.wsgi import PoolMiddleware
from pymysqlpool_flask import PyMySQLPool
from tests.routing.servers import APP, Replication, with_a_late_replica

pytestmark = pytest.mark.timeout(120)
KEY = "a key of more than sixteen characters"
OTHER = "another key, which has not signed it"
WRITE = "INSERT INTO written VALUES (%s, 1)"
SEEN = "SELECT 1 FROM written WHERE id = %s"
numbers = count(1)


class Answer(NamedTuple):
    body: str  # "True" or "False": whether the row was seen
    carried: list[tuple[str, str]]  # header of the answer, value


Send = Callable[[str, int, dict[str, str]], Answer]  # method, number, headers


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[Replication]:
    with with_a_late_replica(request.config.getoption("--server")) as servers:
        yield servers


@pytest.fixture
def cluster(servers: Replication) -> Iterator[Cluster]:
    with Cluster(servers.hosts()[:2], size=2, maxsize=2, timeout=20, read_timeout=20, name="shop", **APP) as cluster:
        yield cluster
        assert cluster.stats().in_use == 0


def carried_of(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() in ("set-cookie", "x-commit-position")]


def wsgi(cluster: Cluster, carries: CarriedCommits | None, body: Any = list) -> Send:
    """An application whose commit is that of the middleware, after it has begun its response."""

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["REQUEST_METHOD"] == "POST":
            with current_connection().cursor() as cursor:
                cursor.execute(WRITE, (int(environ["PATH_INFO"]),))
            return body([b"written"])
        with current_connection(cluster.replica).cursor() as cursor:  # type: ignore[arg-type]
            return body([str(cursor.execute(SEEN, (int(environ["PATH_INFO"]),)) == 1).encode()])

    served = PoolMiddleware(application, cluster.primary, transaction="request", carry_commits=carries)  # type: ignore[arg-type]

    def send(method: str, number: int, headers: dict[str, str]) -> Answer:
        environ = {"REQUEST_METHOD": method, "PATH_INFO": str(number)}
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        setup_testing_defaults(environ)
        started: list[Any] = []
        chunks = served(environ, lambda *head: started.append(head))  # type: ignore[arg-type,func-returns-value]
        said = b"".join(chunks).decode()
        if hasattr(chunks, "close"):
            chunks.close()
        ((_, its),) = started
        return Answer(said, carried_of(its))

    return send


def wsgi_that_streams(cluster: Cluster, carries: CarriedCommits | None) -> Send:
    return wsgi(cluster, carries, body=lambda chunks: (chunk for chunk in chunks))


def asgi(cluster: Cluster, carries: CarriedCommits | None) -> Send:
    def send(method: str, number: int, headers: dict[str, str]) -> Answer:
        return asyncio.run(visit(method, number, headers))

    async def visit(method: str, number: int, headers: dict[str, str]) -> Answer:
        primary, replica = AsyncConnectionPool(pool=cluster.primary), AsyncConnectionPool(pool=cluster.replica)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            said = b"written"
            connection = await current_async_connection(None if scope["method"] == "POST" else replica)
            async with connection.cursor() as cursor:
                if scope["method"] == "POST":
                    await cursor.execute(WRITE, (number,))
                else:
                    said = str(await cursor.execute(SEEN, (number,)) == 1).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": said})

        messages: list[Any] = []

        async def note(message: Any) -> None:
            messages.append(message)

        given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": f"/{number}", "headers": given}
        served = AsgiMiddleware(application, primary, transaction="request", carry_commits=carries)
        await served(scope, None, note)  # type: ignore[arg-type]
        primary.end_threads()
        replica.end_threads()
        said = [(name.decode(), value.decode()) for name, value in messages[0]["headers"]]
        return Answer(messages[1]["body"].decode(), carried_of(said))

    return send


def flask(cluster: Cluster, carries: CarriedCommits | None) -> Send:
    app = Flask(__name__)
    ends = [pool.endpoint.split(":") for pool in cluster.lending.pools]
    places = [{"host": host, "port": int(port)} for host, port in ends]
    options: dict[str, Any] = {"hosts": places, "name": "shop", "size": 2, "transaction": "request", **APP}
    app.config["PYMYSQLPOOL"] = {**options, "carry_commits": carries, "read_timeout": 20}
    db = PyMySQLPool(app)

    @app.post("/<int:number>")
    def write(number: int) -> str:
        with g.db.cursor() as cursor:
            cursor.execute(WRITE, (number,))
        return "written"

    @app.get("/<int:number>")
    def read(number: int) -> str:
        with g.replica.cursor() as cursor:
            return str(cursor.execute(SEEN, (number,)) == 1)

    def send(method: str, number: int, headers: dict[str, str]) -> Answer:
        with app.test_client(use_cookies=False) as client:
            answer = client.open(f"/{number}", method=method, headers=headers)
        return Answer(answer.text, carried_of(answer.headers))

    send.close = lambda: db.get_pool(app=app).close()  # type: ignore[attr-defined]
    return send


@pytest.fixture(params=[wsgi, wsgi_that_streams, asgi, flask])
def site(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Callable[[CarriedCommits | None], Send]]:
    made: list[Send] = []

    def make(carries: CarriedCommits | None) -> Send:
        made.append(request.param(cluster, carries))
        return made[-1]

    yield make
    for send in made:
        if hasattr(send, "close"):
            send.close()


def sent_again(answer: Answer) -> dict[str, str]:
    """What the visitor's browser, or client, sends with the next request."""
    ((name, value),) = answer.carried
    if name.lower() != "set-cookie":
        return {name: value}
    return {"Cookie": "; ".join(f"{key}={morsel.value}" for key, morsel in SimpleCookie(value).items())}


@pytest.mark.parametrize("carries", [CommitCookie(KEY), CommitHeader(KEY)], ids=["cookie", "header"])
def test_the_next_request_sees_what_the_last_one_wrote(site: Any, carries: CarriedCommits) -> None:
    send = site(carries)
    for _ in range(3):
        number = next(numbers)
        written = send("POST", number, {})
        assert send("GET", number, {}) == ("False", []), "another visitor reads the replica, which is late"
        read = send("GET", number, sent_again(written))
        assert read == ("True", []), "and nothing is carried from a request that has written nothing"


def test_what_is_forged_is_as_if_there_were_none(site: Any) -> None:
    send = site(CommitCookie(KEY))
    number = next(numbers)
    send("POST", number, {})
    for said in (CommitCookie(OTHER).header("shop", "0-1-1"), CommitCookie(KEY).header("another", "0-1-1")):
        assert send("GET", number, {"Cookie": said[1].partition(";")[0]}) == ("False", [])
    assert send("GET", number, {"Cookie": "pymysqlpool_commit=x.y.z; a"}) == ("False", [])


def test_it_is_off_by_default(site: Any) -> None:
    send = site(None)
    number = next(numbers)
    assert send("POST", number, {}) == ("written", [])
    said = CommitCookie(KEY).header("shop", "?")[1].partition(";")[0]
    assert send("GET", number, {"Cookie": said}) == ("False", [])


def test_what_a_stream_commits_after_the_head_is_read_from_the_primary(cluster: Cluster) -> None:
    """Its position cannot be in the head; that something is about to be committed can."""

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        cursor = current_connection().cursor()
        cursor.execute(WRITE, (next(numbers),))
        start_response("200 OK", [])
        yield b""
        yield b"chunk"
        current_connection().commit()

    carries = CommitHeader(KEY)
    served = PoolMiddleware(application, cluster.primary, carry_commits=carries)  # type: ignore[arg-type]
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    started: list[Any] = []
    assert b"".join(served(environ, lambda *head: started.append(head))) == b"chunk"  # type: ignore[arg-type,func-returns-value]
    ((_, value),) = carried_of(started[0][1])
    assert carries.read("shop", value) == "?"
