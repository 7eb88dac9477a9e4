"""The whole demonstration: a database server, the log under uvicorn, the tour, then the page for you.

    python -m example_apps.asgi_app.demo [--tour] [--port N]

Owns: starting all of it and, however it ends (Ctrl-C, SIGTERM, an error), leaving no process and no folder behind.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette

from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.devserver import DevServer, DevServerError

from . import data
from .app import create_app
from .tour import Tour

HOST = "127.0.0.1"
PORTS = range(8000, 8100)  # below 32768, where outgoing connections get theirs
CONNECTIONS = 4


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m example_apps.asgi_app.demo", description="The harbour log.")
    parser.add_argument("--tour", action="store_true", help="end after the tour")
    parser.add_argument(
        "--port",
        type=int,
        choices=range(1, 65536),
        metavar="N",
        help=f"where the log answers (default: a free one from {PORTS[0]})",
    )
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    logging.getLogger("pymysqlpool").setLevel(logging.ERROR)  # the tour tells of the 503 itself
    stays = sys.stdin.isatty() and not given.tour
    try:
        with DevServer(database="harbour") as server:
            print(f"{server.version} is up, process {server.pid}; everything it writes is in {server.folder}")
            print(f"The harbour log has {asyncio.run(_load(server.connect_args))} entries", flush=True)
            pool = AsyncConnectionPool(
                **server.connect_args,
                size=CONNECTIONS,
                maxsize=CONNECTIONS,
                timeout=1.5,
                read_timeout=30,
                kill_on_cancel=True,
            )
            with serving(create_app(pool), given.port) as port:
                print(f"The log answers at http://{HOST}:{port}/ (one event loop, {CONNECTIONS} connections)")
                well = Tour(HOST, port).run()
                print("\nThe tour showed all it claims." if well else "\nThe tour did NOT show all it claims.")
                if stays:
                    print(f"\nThe log stays up at http://{HOST}:{port}/ until Ctrl-C.", flush=True)
                    try:
                        threading.Event().wait()
                    except KeyboardInterrupt:
                        print()
                return 0 if well else 1
    except KeyboardInterrupt:
        return 130
    except (DevServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


async def _load(connect_args: dict[str, Any]) -> int:
    async with AsyncConnectionPool(**connect_args) as pool, pool.get_connection() as connection:
        return await data.load(connection)


@contextmanager
def serving(app: Starlette, port: int | None) -> Iterator[int]:
    """The application under uvicorn, in a thread; yields the port."""
    listener = _listen(port)
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    web = uvicorn.Server(config)
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, name="web server", daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        web.should_exit = True
        thread.join(10)
        listener.close()


def _listen(port: int | None) -> socket.socket:
    failure: OSError | None = None
    for candidate in PORTS if port is None else (port,):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen(256)
        except OSError as error:
            listener.close()
            failure = OSError(f"port {candidate}: {error.strerror}; say --port with a free one")
        else:
            return listener
    raise failure or OSError("there is no port to listen on")


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
