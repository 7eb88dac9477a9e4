"""docs/guides/hosts.md does what it says: its blocks run on real servers, at addresses other than those printed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from starlette.websockets import WebSocket

from pymysqlpool.carried_commits import CommitHeader
from pymysqlpool.cluster import Cluster
from tests.documentation import Page
from tests.routing.servers import APP, Galera, Group, Replication, ask, provider, with_a_late_replica
from tests.support import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[Replication]:
    with ExitStack() as stack:
        yield Replication(stack, request.config.getoption("--server"))


def run(containing: str, group: Group, names: dict[str, Any]) -> None:
    """The block with that text; it leaves its names in `names`."""
    (code,) = [
        block.code for block in Page("docs/guides/hosts.md").blocks() if block.shown and containing in block.code
    ]
    first, second, third = (f"{server.host}:{server.port}" for server in group.servers)
    for shown, real in (
        ('"db1"', repr(first)),
        ('"db2:3307"', repr(second)),
        ('"host": "db3"', f'"host": "127.0.0.1", "port": {third.partition(":")[2]}'),
        ("//me:secret@db1/shop", f"//{APP['user']}:{APP['password']}@{first}/{APP['database']}"),
        ('user="me"', f'user="{APP["user"]}", ssl_disabled=True'),
        ('password="secret"', f'password="{APP["password"]}"'),
        ('database="shop"', f'database="{APP["database"]}"'),
    ):
        code = code.replace(shown, real)
    exec(compile(code, "docs/guides/hosts.md", "exec"), names)


def test_a_primary_and_replicas_as_they_are_shown(servers: Replication) -> None:
    names: dict[str, Any] = {}
    run("hosts=[", servers, names)
    ask(servers.servers[0], "CREATE TABLE test.orders (item VARCHAR(9))")
    db: Cluster = names["db"]
    with db:
        assert [state for _, state, _ in db.endpoints()] == ["up, takes writes", "up, read-only", "up, read-only"]
        run("after=connection.commit_token", servers, names)
        with db.replica.get_connection(after=names["connection"].commit_token) as reader:
            reader.execute("SELECT item FROM orders")
            assert reader.fetchall() == (("tea",),)
        names |= {"SECRET_KEY": "a key of more than sixteen characters", "application": orders()}
        run("carry_commits", servers, names)
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        started: list[Any] = []
        names["application"](environ, lambda *head: started.append(head))
        ((_, headers),) = started
        assert "HttpOnly" in dict(headers)["Set-Cookie"]


def orders() -> Any:
    """An application that writes."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        lease = environ["pymysqlpool.scope"].connection()
        lease.execute("INSERT INTO orders (item) VALUES ('milk')")
        lease.commit()
        start_response("200 OK", [])
        return [b"written"]

    return application


@pytest.fixture(scope="module")
def late(request: pytest.FixtureRequest) -> Iterator[Replication]:
    with with_a_late_replica(request.config.getoption("--server")) as servers:
        yield servers


def test_a_websocket_reads_what_its_visitor_wrote_by_the_position_in_its_messages(late: Replication) -> None:
    """The replica has the table, and is an hour late with its rows."""
    ask(late.servers[0], "CREATE TABLE IF NOT EXISTS test.orders (item VARCHAR(9))")
    ask(late.servers[1], "SET sql_log_bin = 0", "CREATE TABLE IF NOT EXISTS test.orders (item VARCHAR(9))")
    with Cluster(late.hosts()[:2], name="shop", size=2, timeout=20, read_timeout=20, **APP) as db:
        names: dict[str, Any] = {"db": db, "SECRET_KEY": "a key of more than sixteen characters"}
        run("iter_json", late, names)
        told = asyncio.run(visit(names["orders"]))
        for pool in (names["primary"], names["replica"]):
            pool.end_threads()
    carries = CommitHeader(names["SECRET_KEY"])
    written = [carries.read("shop", one["position"]) for one in told]
    assert [one["items"] for one in told] == [[], ["milk"], ["milk"], []], "the last message is of another visitor"
    assert written[0] is written[3] is None
    assert written[1] == written[2] != "?"


async def visit(endpoint: Any) -> list[Any]:
    """What it answers to messages, of which the third has the position that the second was answered with."""
    told: list[Any] = []

    async def inbox() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "websocket.connect"}
        yield {"type": "websocket.receive", "text": '{"position": 7}'}
        yield {"type": "websocket.receive", "text": '{"item": "milk"}'}
        yield {"type": "websocket.receive", "text": json.dumps({"position": told[-1]["position"]})}
        yield {"type": "websocket.receive", "text": '{"position": "forged.x.y"}'}
        yield {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            told.append(json.loads(message["text"]))

    await endpoint(WebSocket({"type": "websocket", "headers": []}, inbox().__anext__, send))
    return told


@pytest.mark.slow
@pytest.mark.skipif(provider() is None, reason="needs Galera's library (Debian: apt-get install galera-4)")
def test_one_node_of_galera_leads_to_all(request: pytest.FixtureRequest) -> None:
    names: dict[str, Any] = {"Cluster": Cluster}
    with ExitStack() as stack:
        nodes = Galera(stack, request.config.getoption("--server"))
        run("topology=galera", nodes, names)
        with names["db"] as db:
            db.primary.get_connection().close()
            wait_until(lambda: len(db.endpoints()) == 3, "the other nodes are found", 30)
