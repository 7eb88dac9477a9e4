"""The buttons of the live panel: a crowd of visitors, and a cut through the cables. For a demo, never for the web."""

from __future__ import annotations

import random
import threading
from typing import Any

from flask import Flask

from pymysqlpool import GetConnectionFromPoolError
from pymysqlpool_flask import PyMySQLPool

CROWD = 40  # visitors at once
OURS = "SELECT id FROM information_schema.processlist WHERE id <> %s AND user = SUBSTRING_INDEX(USER(), '@', 1)"


def session_of(connection: Any) -> int:
    """The server's number for the connection's session."""
    return int(connection.thread_id())


def install(app: Flask, db: PyMySQLPool) -> None:
    def visit(hold: float) -> None:
        with app.app_context():  # a thread has no request: it takes a context of its own, and a connection of its own
            try:
                with db.connection.cursor() as cursor:
                    cursor.execute("SELECT SLEEP(%s)", (hold,))
            except GetConnectionFromPoolError:
                app.logger.warning("A visitor went away without an answer")

    def crowd() -> dict[str, int]:
        for _ in range(CROWD):
            threading.Thread(target=visit, args=(random.uniform(0.2, 1.2),), daemon=True).start()
        return {"visitors": CROWD}

    def cut() -> dict[str, int]:
        """End, on the server, every session of ours but the one that says so."""
        with db.connection.cursor() as cursor:
            cursor.execute(OURS, (session_of(db.connection),))
            victims = [int(number) for (number,) in cursor.fetchall()]
            for victim in victims:
                cursor.execute("KILL %s", (victim,))
        return {"cut": len(victims)}

    app.add_url_rule("/play/crowd", "play_crowd", crowd, methods=["POST"])
    app.add_url_rule("/play/cut", "play_cut", cut, methods=["POST"])
