"""The whole demonstration: a database server, the site under runserver, a tour of it, then the site for you.

    python -m example_apps.django_app.demo [--tour] [--port N]

Owns: starting all of it and, however it ends (Ctrl-C, SIGTERM, an error), leaving no process and no folder behind.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql

from pymysqlpool.devserver import DevServer, DevServerError

HOST = "127.0.0.1"
PORTS = range(8100, 8200)  # below 32768, where outgoing connections get theirs
START = 30.0  # seconds the site may take to answer


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m example_apps.django_app.demo", description="The tool library.")
    parser.add_argument("--tour", action="store_true", help="end after the tour")
    parser.add_argument("--port", type=int, help=f"where the site answers (default: a free one from {PORTS[0]})")
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    stays = sys.stdin.isatty() and not given.tour
    try:
        with DevServer(database="library") as server:
            print(f"{server.version} is up, process {server.pid}; everything it writes is in {server.folder}")
            rows, largest = _prepare(server)
            print(f"The tool library of Saltmarsh is migrated and has {rows:,} rows", flush=True)
            port = _free_port() if given.port is None else given.port
            with _serving(port):
                base = f"http://{HOST}:{port}"
                print(f"The site answers at {base}/ (runserver: a thread per visitor, {largest} connections)")
                well = _tour(base, server, largest)
                print("\nThe tour showed all it claims." if well else "\nThe tour did NOT show all it claims.")
                if stays:
                    print(f"\nThe site stays up at {base}/ until Ctrl-C; log in at /admin/ as librarian/librarian.")
                    with contextlib.suppress(KeyboardInterrupt):
                        threading.Event().wait()
                return 0 if well else 1
    except KeyboardInterrupt:
        return 130
    except (DevServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _prepare(server: DevServer) -> tuple[int, int]:
    """Migrate, fill, and say what `poolstatus` says. Returns the number of rows, and of connections allowed."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "example_apps.django_app.settings"
    os.environ.update(LIBRARY_HOST=server.host, LIBRARY_PORT=str(server.port), LIBRARY_USER="root")
    os.environ.update(LIBRARY_PASSWORD=server.connect_args["password"], LIBRARY_NAME="library")
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from . import sample

    call_command("migrate", verbosity=0)
    rows = sample.load()
    call_command("poolstatus")
    largest = connection.settings_dict["OPTIONS"]["pool"]["max_size"]
    connection.close()
    return rows, largest


def _tour(base: str, server: DevServer, largest: int) -> bool:
    from .tour import Tour

    def end_sessions() -> int:
        """End every session but our own, and see them gone."""
        others = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'root'"
        ended = 0
        connection: Any = pymysql.connect(**server.connect_args)
        with connection, connection.cursor() as cursor:
            deadline = time.monotonic() + START
            while cursor.execute(others) and time.monotonic() < deadline:
                for (session,) in cursor.fetchall():
                    with contextlib.suppress(pymysql.OperationalError):  # it has ended by itself
                        cursor.execute("KILL %s", (session,))
                        ended += 1
        return ended

    return Tour(base, end_sessions, largest).run()


@contextlib.contextmanager
def _serving(port: int) -> Iterator[None]:
    """The site under runserver, in a process of its own; answers when this yields."""
    command = [sys.executable, "-m", "example_apps.django_app.manage", "runserver", f"{HOST}:{port}"]
    # Without DEBUG, runserver serves the admin's style sheets only if told so.
    site = subprocess.Popen(
        [*command, "--noreload", "--insecure", "-v0"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START
        while not _answers(port):
            if site.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"the site did not come up on port {port}")
            time.sleep(0.05)
        yield
    finally:
        site.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            site.wait(10)
        site.kill()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise OSError(f"no free port from {PORTS[0]} to {PORTS[-1]}; say --port with a free one")


def _end(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
