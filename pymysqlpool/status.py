"""The status page: the numbers of all pools, what holds connections since when and from where, what was closed and why.

    from pymysqlpool import status

    application = DispatcherMiddleware(application, {"/pools": status.wsgi_app()})  # behind your own login

HTML without JavaScript, for a person. It shows all processes of the application that share a folder (`folder=`, or
PYMYSQLPOOL_BOARD in the environment); without one, the process that answers. It holds file names and lines of your
code and names of threads, but no user, no password and no text of a statement or of a server's error. It is served
nowhere until you mount it; let only people see it who may.

Flask: `pymysqlpool_flask.observe.blueprint`. Django: `pymysqlpool_django.views.status_page`, for staff.
"""

from __future__ import annotations

import os
from typing import Any

from ._observe.board import all_processes, board
from ._observe.serving import HEADERS, Answer, serve_asgi, serve_wsgi
from ._observe.status_page import render
from ._observe.status_text import describe

__all__ = ["HEADERS", "Answer", "Drain", "asgi_app", "ask_for_drain", "page", "publish", "text", "wsgi_app"]

Folder = str | os.PathLike[str] | None


def publish(folder: Folder = None) -> bool:
    """From now on a daemon thread writes this process's numbers into `folder` once a second, for the pages and the
    command line of others; False where there is no folder. The applications below and `PoolCollector` do it too.

    Args:
        folder: default: PYMYSQLPOOL_BOARD in the environment, else `pymysqlpool` in PROMETHEUS_MULTIPROC_DIR.
    """
    its = board(folder)
    if its is not None:
        its.publish()
    return its is not None


def page(folder: Folder = None) -> Answer:
    """Content type and body of the page at this moment; send it with `HEADERS`."""
    return "text/html; charset=utf-8", render(all_processes(folder)).encode()


def text(folder: Folder = None) -> str:
    """The numbers of the processes that run, as lines for a terminal.

    Raises:
        LookupError: there is no folder, so no other process can be seen.
    """
    its = board(folder)
    if its is None:
        raise LookupError("name the folder that the processes share: --folder, or PYMYSQLPOOL_BOARD in the environment")
    return describe([process for process in its.read() if process["alive"]])


def ask_for_drain(folder: Folder = None, label: str | None = None) -> Drain:
    """Have all processes renew the connections of the pool `label`, or of all their pools, without refusing anybody.

    Raises:
        LookupError: there is no folder.
    """
    its = board(folder)
    if its is None:
        raise LookupError("name the folder that the processes share: --folder, or PYMYSQLPOOL_BOARD in the environment")
    return Drain(its, its.ask_for_drain(label))


class Drain:
    """A drain that was asked for."""

    def __init__(self, its: Any, asked_at: float) -> None:
        self._board = its
        self._asked_at = asked_at

    def progress(self) -> tuple[int, int]:
        """How many processes have seen it, and how many there are."""
        running = [process for process in self._board.read() if process["alive"]]
        return sum(process["drained_at"] >= self._asked_at for process in running), len(running)


def wsgi_app(folder: Folder = None) -> Any:
    """The page as a WSGI application."""
    publish(folder)
    return serve_wsgi(lambda: page(folder))


def asgi_app(folder: Folder = None) -> Any:
    """The page as an ASGI application."""
    publish(folder)
    return serve_asgi(lambda: page(folder))
