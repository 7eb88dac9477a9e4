"""The status page: the numbers of all pools, the lent connections with age and call site, and the closed ones.

    from pymysqlpool import status

    application = DispatcherMiddleware(application, {"/pools": status.wsgi_app()})  # behind your own login

The page is HTML without JavaScript. It shows all processes of the application that share a folder (`folder=`, or
PYMYSQLPOOL_BOARD in the environment); without a folder, the answering process. It holds file names and lines of your
code and names of threads, but no user, no password and no text of a statement or of a server's error (Invariant 16).
The page is not served until you mount it; restrict the access to operators.

Flask: `pymysqlpool_flask.observe.blueprint`. Django: `pymysqlpool_django.views.status_page`, for staff.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

from ._observe.board import Board, all_processes, board
from ._observe.running import own_name
from ._observe.serving import HEADERS, Answer, serve_asgi, serve_wsgi
from ._observe.status_page import render
from ._observe.status_text import describe

__all__ = ["HEADERS", "Answer", "Drain", "asgi_app", "ask_for_drain", "page", "publish", "text", "wsgi_app"]

Folder = str | os.PathLike[str] | None
_LOOK = 0.1  # seconds between two looks at the progress of a drain


def publish(folder: Folder = None) -> bool:
    """Start a daemon thread that writes this process's numbers into `folder` once a second, for the pages and the
    command line of other processes. Return False without a folder. The applications below and `PoolCollector` call it.

    Args:
        folder: default: PYMYSQLPOOL_BOARD in the environment, else `pymysqlpool` in PROMETHEUS_MULTIPROC_DIR.
    """
    its = board(folder)
    if its is not None:
        its.publish()
    return its is not None


def page(folder: Folder = None) -> Answer:
    """Return content type and body of the page at this moment; send it with `HEADERS`."""
    return "text/html; charset=utf-8", render(all_processes(folder)).encode("utf-8", "replace")


def text(folder: Folder = None) -> str:
    """Return the numbers of the other running processes as lines for a terminal.

    Raises:
        LookupError: no folder is named, or it cannot be read.
    """
    its = _readable(folder)
    return describe(_others(its)) or f"no running process publishes a pool in {its.folder}"


def ask_for_drain(folder: Folder = None, label: str | None = None) -> Drain:
    """Ask the other processes to renew the connections of the pool `label`, or of all pools; no borrow is refused.

    Raises:
        LookupError: no folder is named, it cannot be read, or no running process has a pool `label`.
        OSError: the folder cannot be written to.
    """
    its = _readable(folder)
    labels = {pool["label"] for process in _others(its) for pool in process["pools"]}
    if label is not None and label not in labels:
        there = f"there are: {', '.join(sorted(labels))}" if labels else "there is none"
        raise LookupError(f"no running process has a pool {label!r} in {its.folder}; {there}")
    return Drain(its, its.ask_for_drain(label))


def _readable(folder: Folder) -> Board:
    its = board(folder)
    if its is None:
        raise LookupError("name the folder that the processes share: --folder, or PYMYSQLPOOL_BOARD in the environment")
    try:
        os.listdir(its.folder)
    except OSError as error:
        raise LookupError(f"{its.folder}: {error.strerror}; is it the folder that the processes share?") from error
    return its


def _others(its: Board) -> list[dict[str, Any]]:
    """A command that loads the application may publish as well, and has nothing to show."""
    return [process for process in its.read() if process["alive"] and process["name"] != own_name()]


class Drain:
    """A requested drain."""

    def __init__(self, its: Board, name: str) -> None:
        self._board = its
        self._name = name

    def progress(self) -> tuple[int, int]:
        """Return the number of processes that have seen the request, and the number of all processes."""
        running = _others(self._board)
        return sum(self._name in process["drained"] for process in running), len(running)

    def watch(self, timeout: float) -> Iterator[tuple[int, int]]:
        """Yield `progress()` each time that it has changed, until all processes have seen the request.

        Args:
            timeout: seconds after which it ends in any case.
        """
        until = monotonic() + timeout
        last = (-1, -1)
        while True:
            if (now := self.progress()) != last:
                yield now
                last = now
            if now[0] == now[1] or monotonic() >= until:
                return
            sleep(_LOOK)


def wsgi_app(folder: Folder = None) -> Any:
    """Return the page as a WSGI application."""
    publish(folder)
    return serve_wsgi(lambda: page(folder))


def asgi_app(folder: Folder = None) -> Any:
    """Return the page as an ASGI application."""
    publish(folder)
    return serve_asgi(lambda: page(folder))
