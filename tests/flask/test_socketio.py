"""Flask-SocketIO: over a websocket each statement borrows; by long polling an event's handler has one until its end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import g
from werkzeug.serving import make_server

from tests.support import run_threads, wait_until

from .conftest import MakeSite, ask

flask_socketio = pytest.importorskip("flask_socketio")
socketio = pytest.importorskip("socketio")


@pytest.fixture(autouse=True)
def no_stray_threads() -> None:
    """Not here: Flask-SocketIO's server leaves threads of its own."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # `fail` raises in one
@pytest.mark.parametrize(("transport", "held"), [("websocket", 0), ("polling", 1)])
def test_an_idle_socket_holds_no_connection(make_site: MakeSite, transport: str, held: int) -> None:
    site = make_site(size=1, maxsize=1, timeout=5)
    # Its threads look at each interval whether their client is still there, and the end of the test waits for them.
    sockets = flask_socketio.SocketIO(site.app, async_mode="threading", ping_interval=0.5, ping_timeout=30)
    lent: list[int] = []

    @sockets.on("ask")  # type: ignore[untyped-decorator]
    def answer(number: int) -> list[int]:
        lent.append(site.in_use)
        told = int(ask(g.db, f"SELECT {number}"))
        lent.append(site.in_use)
        return [told, g.db.thread_id()]

    @sockets.on("fail")  # type: ignore[untyped-decorator]
    def fail(_: int) -> None:
        ask(g.db, "SELECT 1")
        raise LookupError("as the test wants it")

    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    clients: list[Any] = []
    try:
        for _ in range(3):  # on one connection
            client = socketio.Client(reconnection=False)
            client.connect(f"http://127.0.0.1:{server.server_port}", transports=[transport], wait_timeout=30)
            clients.append(client)
        sessions = set()
        for number, client in enumerate(clients * 2):
            told, session = client.call("ask", number, timeout=30)
            assert told == number
            sessions.add(session)
            wait_until(lambda: site.in_use == 0, "the handler has given back")
        assert lent == [0, held] * 6
        assert len(sessions) == 1
        clients[0].emit("fail", 1)
        assert clients[1].call("ask", 7, timeout=30)[0] == 7
        wait_until(lambda: site.in_use == 0, "a handler that failed has given back, too")
    finally:
        # At once: each waits three seconds for the server to close a websocket.
        if clients:
            run_threads(len(clients), lambda index: (clients[index].disconnect(), clients[index].wait()))
        server.shutdown()
        server.server_close()
        thread.join()
