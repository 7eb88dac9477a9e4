"""The same under Flask, through the extension: its pool, too, is used before the fork."""

from __future__ import annotations

import json
import os
from typing import Any

from flask import Flask, g

from pymysqlpool_flask import PyMySQLPool

database = json.loads(os.environ["DATABASE"])
app = Flask(__name__)
app.config["PYMYSQLPOOL"] = {**database, "size": 2, "maxsize": 2}
extension = PyMySQLPool(app)


def ask() -> dict[str, Any]:
    cursor = g.db.cursor()
    cursor.execute("select connection_id(), %s", (os.getpid(),))
    session, pid = cursor.fetchone()
    return {"pid": pid, "session": session}


with app.app_context():
    SESSIONS = [ask()["session"]]


@app.get("/")
def index() -> dict[str, Any]:
    return {**ask(), "before": SESSIONS}


def look_after_the_children() -> None:
    with app.app_context(), open(os.environ["TOLD"], "w") as told:
        json.dump({"before": SESSIONS, "after": [ask()["session"]]}, told)
