"""The board's pages. Everything about the pool is in the lines with `db`.

`create_app(config)` wants app.config["PYMYSQLPOOL"]; see README.md. `PLAYGROUND` adds the buttons of the live panel.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, flash, redirect, render_template, request, stream_with_context, url_for
from pymysql.cursors import DictCursor, SSCursor
from pymysql.err import IntegrityError
from werkzeug.wrappers import Response as BaseResponse

from pymysqlpool_flask import PyMySQLPool, g
from pymysqlpool_flask.observe import blueprint

from . import playground
from .data import topics_by_slug

PAGE = 20
EXPORT_BATCH, EXPORT_PAUSE = 100, 0.02  # rows at a time, and seconds between: an export must not starve the board

db = PyMySQLPool()


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "only for the flash messages of a demo"
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    db.init_app(app)

    app.add_url_rule("/", "board", board)
    app.add_url_rule("/notice/<int:number>", "notice", notice)
    app.add_url_rule("/notice/<int:number>/reply", "reply", reply, methods=["POST"])
    app.add_url_rule("/notice/<int:number>/thanks", "thanks", thanks, methods=["POST"])
    app.add_url_rule("/new", "new", new, methods=["GET", "POST"])
    app.add_url_rule("/people", "people", people, methods=["GET", "POST"])
    app.add_url_rule("/report", "report", report)
    app.add_url_rule("/export.csv", "export", export)
    app.add_url_rule("/pool.json", "pool_numbers", pool_numbers)
    app.add_url_rule("/ready", "ready", ready)
    app.register_error_handler(IntegrityError, name_is_taken)
    app.register_error_handler(404, lambda error: (render_template("404.html"), 404))
    app.register_error_handler(503, busy)
    app.before_request(refuse_other_origins)
    app.after_request(name_connection)
    if app.config.get("PLAYGROUND"):
        playground.install(app, db)
        app.register_blueprint(blueprint(), url_prefix="/pools")  # a real application asks for a login before it
    return app


def refuse_other_origins() -> None:
    """A form on another site must not write here in a visitor's name. With accounts, add a token for each form."""
    origin = request.headers.get("Origin")
    if request.method == "POST" and origin is not None and urlsplit(origin).netloc != request.host:
        abort(403)


# -- the database, as the views see it -----------------------------------------------------------------------


def rows(sql: str, *values: Any) -> list[dict[str, Any]]:
    """The rows of one statement, on this request's connection."""
    g.connection_id = playground.session_of(g.db)
    with g.db.cursor(DictCursor) as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def row(sql: str, *values: Any) -> dict[str, Any]:
    found = rows(sql, *values)
    return found[0] if found else abort(404)


def change(sql: str, *values: Any) -> int:
    """Insert or update; returns the new row's number."""
    g.connection_id = playground.session_of(g.db)
    with g.db.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.lastrowid or 0)


def person_called(name: str) -> int:
    """The number of the person with that name, who joins now if the name is free."""
    return change(
        "INSERT INTO person (name) VALUES (%s) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)", name or "Somebody"
    )


# -- the pages -----------------------------------------------------------------------------------------------


def board() -> str:
    slug, words = request.args.get("topic", ""), request.args.get("q", "").strip()
    page = max(1, request.args.get("page", 1, int))
    topics = rows(
        "SELECT t.*, COUNT(n.id) AS notices FROM topic t LEFT JOIN notice n ON n.topic_id = t.id GROUP BY t.id"
    )
    where, values = ["1"], []
    if slug in topics_by_slug(topics):
        where.append("t.slug = %s")
        values.append(slug)
    if words:
        where.append("MATCH (n.title, n.body) AGAINST (%s IN NATURAL LANGUAGE MODE)")
        values.append(words)
    condition = " AND ".join(where)
    source = "notice n JOIN topic t ON t.id = n.topic_id JOIN person p ON p.id = n.person_id"
    total = row(f"SELECT COUNT(*) AS number FROM {source} WHERE {condition}", *values)["number"]
    found = rows(
        f"""SELECT n.*, t.slug, t.sign, t.name AS topic, p.name AS author,
                   (SELECT COUNT(*) FROM reply r WHERE r.notice_id = n.id) AS replies
            FROM {source} WHERE {condition} ORDER BY n.id DESC LIMIT {PAGE} OFFSET %s""",
        *values,
        (page - 1) * PAGE,
    )
    pages = max(1, -(-total // PAGE))
    return render_template(
        "board.html", topics=topics, notices=found, slug=slug, words=words, page=page, pages=pages, total=total
    )


def notice(number: int) -> str:
    found = row(
        """SELECT n.*, t.slug, t.sign, t.name AS topic, p.name AS author FROM notice n
           JOIN topic t ON t.id = n.topic_id JOIN person p ON p.id = n.person_id WHERE n.id = %s""",
        number,
    )
    replies = rows(
        "SELECT r.*, p.name AS author FROM reply r JOIN person p ON p.id = r.person_id "
        "WHERE r.notice_id = %s ORDER BY r.id",
        number,
    )
    return render_template("notice.html", notice=found, replies=replies)


def new() -> str | BaseResponse:
    if request.method == "GET":
        return render_template("new.html", topics=rows("SELECT * FROM topic ORDER BY id"))
    title, body = request.form.get("title", "").strip(), request.form.get("body", "").strip()
    if not title or not body:
        abort(400, "A notice needs a title and some words.")
    with db.transaction():  # the person and the notice, or neither
        author = person_called(request.form.get("name", "").strip())
        number = change(
            "INSERT INTO notice (topic_id, person_id, title, body) SELECT id, %s, %s, %s FROM topic WHERE slug = %s",
            author,
            title[:120],
            body,
            request.form.get("topic", ""),
        )
        if not number:
            abort(400, "There is no such topic.")
    flash("Your notice is up.")
    return redirect(url_for("notice", number=number))


def reply(number: int) -> BaseResponse:
    body = request.form.get("body", "").strip()
    row("SELECT id FROM notice WHERE id = %s", number)
    if body:
        with db.transaction():
            author = person_called(request.form.get("name", "").strip())
            change("INSERT INTO reply (notice_id, person_id, body) VALUES (%s, %s, %s)", number, author, body[:500])
        flash("Your reply is up.")
    return redirect(url_for("notice", number=number) + "#replies")


def thanks(number: int) -> BaseResponse:
    with db.transaction():
        change("UPDATE notice SET thanks = thanks + 1 WHERE id = %s", number)
    return redirect(url_for("notice", number=number))


def people() -> str | BaseResponse:
    if request.method == "POST":
        with db.transaction():
            change("INSERT INTO person (name) VALUES (%s)", request.form.get("name", "").strip())
        flash("Welcome to Saltmarsh.")
        return redirect(url_for("people"))
    found = rows(
        """SELECT p.name, p.joined, COUNT(n.id) AS notices, COALESCE(SUM(n.thanks), 0) AS thanks
           FROM person p LEFT JOIN notice n ON n.person_id = p.id
           GROUP BY p.id ORDER BY thanks DESC, p.name LIMIT 60"""
    )
    return render_template("people.html", people=found)


def report() -> dict[str, Any]:
    """The harbour master's report: slow on purpose, it holds its connection for `hold` seconds (at most 5)."""
    hold = min(5.0, max(0.0, request.args.get("hold", 0.3, float)))
    asked = time.monotonic()
    connection = playground.session_of(g.db)
    served = time.monotonic()
    counted = rows("SELECT t.name, COUNT(*) AS notices FROM topic t JOIN notice n ON n.topic_id = t.id GROUP BY t.id")
    rows("SELECT SLEEP(%s)", hold)
    return {"connection": connection, "waited": served - asked, "served_at": served, "report": counted}


def export() -> Response:
    """Every notice as CSV, streamed row by row from a cursor that keeps nothing in memory."""

    def lines() -> Iterator[str]:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(("id", "title", "body", "thanks", "written"))
        with g.db.cursor(SSCursor) as cursor:  # closed by the pool if the client hangs up
            cursor.execute("SELECT id, title, body, thanks, written FROM notice ORDER BY id")
            while batch := cursor.fetchmany(EXPORT_BATCH):
                writer.writerows(batch)
                yield out.getvalue()
                out.seek(0)
                out.truncate()
                time.sleep(EXPORT_PAUSE)

    return Response(stream_with_context(lines()), mimetype="text/csv")


def pool_numbers() -> dict[str, Any]:
    """What the live panel draws. It asks the pool, not the database: it answers when the database cannot."""
    stats = db.pool.stats()
    numbers = {name: value for name, value in _plain(stats).items() if name != "name"}
    return {**numbers, "discarded": dict(stats.discarded), "total": stats.total}


def ready() -> tuple[bytes, int, dict[str, str]]:
    """For a load balancer: 200 while the database answers, also when every connection is lent; else 503."""
    health = db.health()
    return health.as_json(), health.status, {"Content-Type": "application/json"}


def _plain(stats: Any) -> dict[str, Any]:
    return {name: getattr(stats, name) for name in stats.__dataclass_fields__}


def name_is_taken(error: IntegrityError) -> tuple[str, int]:
    if error.args[0] != 1062:
        raise error
    return render_template("taken.html", name=request.form.get("name", "")), 409


def busy(error: Any) -> Response:
    response = Response(render_template("busy.html"), 503)
    response.headers["Retry-After"] = str(error.retry_after or 1)
    return response


def name_connection(response: Response) -> Response:
    """Say which database session made this page: the demo's tour and the footer show it."""
    if "connection_id" in g:
        response.headers["X-Database-Connection"] = str(g.connection_id)
    return response
