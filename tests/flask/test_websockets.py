"""flask-sock: an idle websocket holds no connection, sees what others commit, and outlives the server's patience; what
it has not committed is its own until it does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import g
from werkzeug.serving import make_server

from tests.support import wait_until

from .conftest import MakeSite, Site, ask

flask_sock = pytest.importorskip("flask_sock")
websocket = pytest.importorskip("websocket")

Ask = Callable[[str], Any]


@pytest.fixture(params=[None, "request"], ids=["", "transaction=request"])
def site(make_site: MakeSite, request: pytest.FixtureRequest) -> Site:
    """One connection for all; each socket executes what it is told, and says how many are lent afterwards."""
    site = make_site(
        size=1, maxsize=1, timeout=0.5, deadline=0.5, transaction=request.param, init_command="SET wait_timeout = 2"
    )

    @flask_sock.Sock(site.app).route("/ws")
    def talk(socket: Any) -> None:
        while True:
            statement = socket.receive()
            try:
                if statement in ("commit", "rollback"):
                    answer = getattr(g.db, statement)()
                else:
                    with g.db.cursor() as cursor:
                        cursor.execute(statement)
                        answer = cursor.fetchall()
            except Exception as error:  # noqa: BLE001 - told to the client
                answer = repr(error)
            socket.send(json.dumps([answer, site.in_use]))

    @site.app.get("/")
    def index() -> str:
        return str(ask(g.db, "SELECT COUNT(*) FROM item"))

    return site


@pytest.fixture
def connect(site: Site) -> Iterator[Callable[[], Ask]]:
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sockets: list[Any] = []

    def connect() -> Ask:
        socket = websocket.create_connection(f"ws://127.0.0.1:{server.server_port}/ws", timeout=20)
        sockets.append(socket)

        def ask(statement: str) -> Any:
            socket.send(statement)
            return json.loads(socket.recv())

        return ask

    yield connect
    for socket in sockets:
        socket.close()
    wait_until(lambda: not site.in_use, "all given back")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("table")
def test_idle_sockets_hold_nothing_and_see_what_others_commit(connect: Any, site: Site, admin: Any) -> None:
    told = [connect() for _ in range(3)]
    for count in range(3):
        for one in told:
            assert one("SELECT COUNT(*) FROM item") == [[[count]], 0]
        assert site.client.get("/").data == str(count).encode()
        ask(admin, "INSERT INTO item VALUES (%s)", count)


def test_what_is_not_committed_stays_with_its_socket(connect: Any, table: Callable[[], list[int]]) -> None:
    one, other = connect(), connect()
    assert one("INSERT INTO item VALUES (1)") == [[], 1]
    assert "PoolTimeout" in other("SELECT 1")[0]
    assert (one("SELECT id FROM item"), table()) == ([[[1]], 1], [])
    assert (one("commit"), table()) == ([None, 0], [1])
    assert other("SELECT id FROM item") == [[[1]], 0]


def test_a_socket_outlives_the_sessions_it_had(connect: Any, site: Site, admin: Any) -> None:
    one = connect()
    for _ in range(3):
        ((number,),), lent = one("SELECT CONNECTION_ID()")
        assert lent == 0
        admin.kill(number)
