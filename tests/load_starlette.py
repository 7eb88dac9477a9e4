"""The pages that tests.load asks for, as a Starlette application: awaited statements, and a few in threads.

Environment: BOARD, the pool's arguments as JSON.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pymysql
from pymysql.cursors import SSCursor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.responses import StreamingResponse as Stream
from starlette.routing import Route

from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.asgi import PoolMiddleware, current_async_connection
from pymysqlpool.request_scope import current_connection

pool = AsyncConnectionPool(**json.loads(os.environ["BOARD"]))


async def rows(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    async with (await current_async_connection()).cursor() as cursor:
        await cursor.execute(sql, values)
        return list(await cursor.fetchall())


async def form_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


async def board(request: Request) -> Response:
    page = int(request.query_params.get("page", 1))
    found = await rows("SELECT title FROM notice ORDER BY id DESC LIMIT 20 OFFSET %s", (page - 1) * 20)
    return HTMLResponse("".join(f'<li class="card">{html.escape(title)}' for (title,) in found))


async def notice(request: Request) -> Response:
    found = await rows("SELECT title FROM notice WHERE id = %s", request.path_params["number"])
    if not found:
        return HTMLResponse("Blown away", 404)
    return HTMLResponse(html.escape(found[0][0], quote=False))


def _as_it_is_found(token: str) -> tuple[Any, ...]:
    with current_connection().cursor() as cursor:
        cursor.execute("SELECT @left, DATABASE(), @@autocommit, @@sql_mode = @@global.sql_mode, %s", (token,))
        found: tuple[Any, ...] = cursor.fetchone()
        return found


async def echo(request: Request) -> Response:
    """Every second one in a thread."""
    token = request.path_params["token"]
    if token[-1] in "02468":
        left, database, autocommit, as_new, answer = await asyncio.to_thread(_as_it_is_found, token)
    else:
        asked = "SELECT @left, DATABASE(), @@autocommit, @@sql_mode = @@global.sql_mode, %s"
        ((left, database, autocommit, as_new, answer),) = await rows(asked, token)
    clean = left is None and database == "board" and not autocommit and bool(as_new)
    return JSONResponse({"clean": clean, "answer": answer})


async def people(request: Request) -> Response:
    name = (await form_of(request))["name"]
    connection = await current_async_connection()
    try:
        async with connection.transaction():
            await connection.cursor().execute("INSERT INTO person (name) VALUES (%s)", (name,))
    except pymysql.err.IntegrityError:
        return HTMLResponse(f"{name} is called {name} already", 409)
    return RedirectResponse("/people", 302)


async def reply(request: Request) -> Response:
    form = await form_of(request)
    connection = await current_async_connection()
    async with connection.transaction():
        cursor = connection.cursor()
        await cursor.execute(
            "INSERT INTO person (name) VALUES (%s) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)", (form["name"],)
        )
        await cursor.execute(
            "INSERT INTO reply (notice_id, person_id, body) VALUES (%s, %s, %s)",
            (request.path_params["number"], cursor.lastrowid, form["body"]),
        )
    return RedirectResponse("/", 302)


async def disorder(request: Request) -> Response:
    cursor = (await current_async_connection()).cursor()
    token = request.path_params["token"]
    await cursor.execute("SET @left = %s, SESSION sql_mode = '', autocommit = 1", (token,))
    await cursor.execute("BEGIN")
    await cursor.execute("INSERT INTO person (name) VALUES (%s)", (f"never {token}",))
    await cursor.execute("USE mysql")
    raise LookupError("as the load wants it")


async def broken(request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        cursor = (await current_async_connection()).cursor(SSCursor)
        await cursor.execute("SELECT %s, id FROM notice", (request.path_params["token"],))
        yield f"{(await cursor.fetchone())[0]}\n"
        raise LookupError("as the load wants it")

    return Stream(lines(), media_type="text/plain")


async def export(request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        yield "id\n"
        async with (await current_async_connection()).cursor(SSCursor) as cursor:
            await cursor.execute("SELECT id FROM notice ORDER BY id")
            while batch := await cursor.fetchmany(100):
                yield "".join(f"{number}\n" for (number,) in batch)
                await asyncio.sleep(0.02)

    await current_async_connection()  # a refusal is an answer of its own, before the head
    return Stream(lines(), media_type="text/csv")


async def report(request: Request) -> Response:
    counted = await rows("SELECT topic_id, COUNT(*) FROM notice GROUP BY topic_id")
    await rows("SELECT SLEEP(%s)", min(5.0, float(request.query_params["hold"])))
    return JSONResponse({"report": [{"notices": number} for _, number in counted]})


async def numbers(request: Request) -> Response:
    now = pool.stats()
    names = ("in_use", "waiting", "leaked", "closing", "total", "idle", "borrowed", "created", "timeouts", "wait_time")
    return JSONResponse({name: getattr(now, name) for name in names} | {"discarded": dict(now.discarded)})


app = Starlette(
    routes=[
        Route("/", board),
        Route("/notice/{number:int}", notice),
        Route("/notice/{number:int}/reply", reply, methods=["POST"]),
        Route("/people", people, methods=["POST"]),
        Route("/echo/{token}", echo),
        Route("/disorder/{token}", disorder, methods=["POST"]),
        Route("/broken/{token}", broken),
        Route("/export.csv", export),
        Route("/report", report),
        Route("/numbers", numbers),
    ]
)
app.add_middleware(PoolMiddleware, pool=pool, owns_pool=True)
