"""The visitors' book in four frameworks under four real servers: the server's behaviour is the point (18 to 20, 24)."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any

import pytest

from tests.serving import SERVERS, Web, serving
from tests.support import wait_until

APPLICATIONS = ("plain", "bottle_app", "falcon_app", "flask_view")
NEEDS = {"bottle_app": "bottle", "falcon_app": "falcon", "flask_view": "flask"}


@pytest.mark.parametrize("web_server", list(SERVERS))
@pytest.mark.parametrize("application", APPLICATIONS)
def test_nothing_stays_lent_whatever_clients_do(
    application: str, web_server: str, connect_args: dict[str, Any], admin: Any
) -> None:
    if application in NEEDS:
        pytest.importorskip(NEEDS[application])
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS visitor")
    environment = {"DB_PORT": str(connect_args["port"]), "DB_PASSWORD": connect_args["password"]}
    environment |= {"DB_NAME": connect_args["database"], "DB_POOL": "3"}
    with serving(web_server, f"example_apps.wsgi_app.{application}:application", environment) as web:
        assert web.ask("POST", "/", "Ada was here")[0] == 200
        assert web.ask("POST", "/", "   ")[0] == 400
        assert web.ask("GET", "/") == (200, "Ada was here\n")
        with admin.cursor() as cursor:
            cursor.execute("INSERT INTO visitor (line) SELECT REPEAT('x', 190) FROM seq_1_to_60000")
        crowd = [threading.Thread(target=web.ask, args=("GET", "/")) for _ in range(12)]
        for thread in crowd:
            thread.start()
        for _ in range(3):
            _hang_up_in_the_middle(web)
        for thread in crowd:
            thread.join(30)
        numbers = _all_home(web)
        assert numbers["leaked"] == 0
        status, everything = web.ask("GET", "/all")
        assert (status, len(everything.splitlines())) == (200, 60001)
        assert _all_home(web)["in_use"] == 0
    with admin.cursor() as cursor:
        cursor.execute("SELECT line FROM visitor WHERE line NOT LIKE 'xx%'")
        assert list(cursor.fetchall()) == [("Ada was here",)]
        cursor.execute("DROP TABLE visitor")


def _hang_up_in_the_middle(web: Web) -> None:
    """Read the first bytes of a stream of 12 MB and be gone without closing in order."""
    with web.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /all HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(1000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _all_home(web: Web) -> dict[str, int]:
    numbers: dict[str, int] = {}

    def home() -> dict[str, int] | None:
        numbers.update(json.loads(web.ask("GET", "/numbers")[1]))
        return numbers if numbers["in_use"] + numbers["waiting"] == 0 else None

    try:
        wait_until(home, "all connections come home", timeout=20)
    except AssertionError as error:
        error.add_note(f"the pool's numbers: {numbers}")
        raise
    return numbers
