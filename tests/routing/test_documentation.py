"""docs/guides/hosts.md does what it says: its blocks run on real servers, at addresses other than those printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from pymysqlpool.cluster import Cluster
from tests.documentation import Page
from tests.routing.servers import APP, Galera, Group, Replication, ask, provider
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
        run("commit_token", servers, names)
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
