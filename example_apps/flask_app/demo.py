"""The whole demonstration: a database server, the board under a real web server, the tour, then the board for you.

    python -m example_apps.flask_app.demo [--tour] [--port N]

Owns: starting all of it and, however it ends (Ctrl-C, SIGTERM, an error), leaving no process and no folder behind.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import waitress
from flask import Flask

from pymysqlpool import ConnectionPool
from pymysqlpool.devserver import DevServer, DevServerError

from . import data, playground
from .app import create_app, db
from .tour import PATIENCE, Tour

HOST = "127.0.0.1"
PORTS = range(8000, 8100)  # below 32768, where outgoing connections get theirs
CONNECTIONS = 6
THREADS = 32


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m example_apps.flask_app.demo", description="The Saltmarsh board.")
    parser.add_argument("--tour", action="store_true", help="end after the tour")
    parser.add_argument(
        "--port",
        type=int,
        choices=range(1, 65536),
        metavar="N",
        help=f"where the board answers (default: a free one from {PORTS[0]})",
    )
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    logging.getLogger("waitress").setLevel(logging.ERROR)  # "Task queue depth" is what a crowd looks like
    stays = sys.stdin.isatty() and not given.tour
    try:
        with DevServer(database="board") as server:
            print(f"{server.version} is up, process {server.pid}; everything it writes is in {server.folder}")
            with ConnectionPool(**server.connect_args) as pool:
                print(f"The notice board of Saltmarsh has {data.load(pool):,} rows in it", flush=True)
            app = create_app(
                {
                    "PYMYSQLPOOL": {
                        **server.connect_args,
                        "size": CONNECTIONS,
                        "maxsize": CONNECTIONS,
                        "read_timeout": 30,  # seconds; above the slowest statement
                        "server_timing": True,
                    },
                    "PLAYGROUND": True,
                }
            )
            with serving(app, given.port) as port:
                print(f"The board answers at http://{HOST}:{port}/ ({THREADS} threads, {CONNECTIONS} connections)")
                well = Tour(HOST, port, _session_killer(server)).run()
                print("\nThe tour showed all it claims." if well else "\nThe tour did NOT show all it claims.")
                if stays:
                    print(f"\nThe board stays up at http://{HOST}:{port}/ until Ctrl-C.", flush=True)
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


@contextmanager
def serving(app: Flask, port: int | None) -> Iterator[int]:
    """The application under waitress, in a thread; yields the port."""
    listener = _listen(port)
    web = waitress.create_server(
        app,
        sockets=[listener],
        threads=THREADS,
        # A stream waits for its client, instead of running ahead of it into a buffer.
        outbuf_high_watermark=64 * 1024,
    )
    threading.Thread(target=web.run, name="web server", daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with app.app_context():
            db.pool.close(timeout=1)
        web.task_dispatcher.shutdown(timeout=1)


def _listen(port: int | None) -> socket.socket:
    failure: OSError | None = None
    for candidate in PORTS if port is None else (port,):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
        except OSError as error:
            listener.close()
            failure = OSError(f"port {candidate}: {error.strerror}; say --port with a free one")
        else:
            return listener
    raise failure or OSError("there is no port to listen on")


def _session_killer(server: DevServer) -> Callable[[], list[int]]:
    def end_sessions() -> list[int]:
        """End every session but our own, and see them gone."""
        connection: Any = pymysql.connect(**server.connect_args)
        with connection, connection.cursor() as cursor:
            cursor.execute(playground.OURS, (connection.thread_id(),))
            ended = sorted(int(number) for (number,) in cursor.fetchall())
            for session in ended:
                cursor.execute("KILL %s", (session,))
            waiting = threading.Event()
            for _ in range(int(PATIENCE / 0.01)):
                cursor.execute(playground.OURS, (connection.thread_id(),))
                if not cursor.fetchall():
                    break
                waiting.wait(0.01)
        return ended

    return end_sessions


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
