"""The borrower and the call site of a borrow: cheap to note at every checkout, formatted only for a message.

A borrower is a thread (or a greenlet, where `threading.local` is patched), identified by a token that only that thread
keeps alive: when the weak reference to the token is dead, so is the thread, even if its id is in use again. A call site
is a code object and an instruction offset; the line is looked up when a message needs it.

Owns: tokens and call sites. Never: keeps a frame, a thread or a task alive.
"""

from __future__ import annotations

import sys
import threading
import traceback
import weakref
from types import CodeType, FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Reference = weakref.ref[Any]  # to the borrower's token: a `Token`, or the task itself

Place = tuple[CodeType, int] | str
UNKNOWN: Place = "an unknown place"

# What stands between the user's line and ours.
_PASSED_OVER = frozenset(
    {
        "asgiref",
        "contextlib",
        "django",
        "flask",
        "flask_sqlalchemy",
        "pymysqlpool",
        "pymysqlpool_django",
        "pymysqlpool_flask",
        "sqlalchemy",
        "werkzeug",
    }
)
# The answer for each function seen so far, by id(): under Django a dozen frames are passed over at every borrow.
_passed_over: dict[int, bool] = {}
passed_over = _passed_over.get  # of the id() of a code object; None: not seen yet
_seen: list[CodeType] = []  # kept alive, so that no other gets its id()
_MOST_SEEN = 10_000


class Token:
    """Alive as long as its thread or task."""

    __slots__ = ("__weakref__", "description")

    def __init__(self, description: str = "") -> None:
        self.description: str = description or f"thread {threading.current_thread().name!r}"


class _Local(threading.local):
    # For a finalizer or a signal handler that borrows while `__init__` runs in its thread.
    token = Token("a thread at its beginning")
    reference: Reference = weakref.ref(token)

    def __init__(self) -> None:
        token = Token()
        self.token = token
        self.reference = weakref.ref(token)


local = _Local()


def current() -> Reference:
    """The calling thread's token."""
    return local.reference


def caller() -> FrameType | None:
    """The innermost frame that is not this package's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        passed_over = _passed_over.get(id(frame.f_code))
        if passed_over is None:
            passed_over = _passes_over(frame)
        if not passed_over:
            break
        frame = frame.f_back
    return frame


def of(frame: FrameType | None) -> tuple[Any, int]:
    """The call site of `frame`, or of the innermost one around it that is not this package's: as a place and an offset,
    for `resolve`."""
    while frame is not None:
        code = frame.f_code
        passed_over = _passed_over.get(id(code))
        if passed_over is None:
            passed_over = _passes_over(frame)
        if not passed_over:
            return code, frame.f_lasti
        frame = frame.f_back
    return UNKNOWN, 0


def _passes_over(frame: FrameType) -> bool:
    passed_over = frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER
    if len(_seen) < _MOST_SEEN:
        _seen.append(frame.f_code)
        _passed_over[id(frame.f_code)] = passed_over
    return passed_over


def place(frame: FrameType | None = None) -> Place:
    """The call site in the user's code, of the calling frame, or of `frame` where that is known to be one of ours."""
    code, offset = of(frame or sys._getframe(1))
    return (code, offset) if code is not UNKNOWN else UNKNOWN


class Spot:
    """A call site, in the form of the frame that has gone on since."""

    __slots__ = ("f_code", "f_lasti")

    def __init__(self, place: Place) -> None:
        code, instruction = (place, 0) if isinstance(place, str) else place
        self.f_code: Any = code
        self.f_lasti: int = instruction


def resolve(place: Any, offset: int) -> Place | None:
    """The place that was noted as a code object and an offset apart; a place that is one already stays as it is."""
    return (place, offset) if isinstance(place, CodeType) else place


def stack() -> str:
    """The whole stack of the caller, as text."""
    return "".join(traceback.format_stack(caller()))


def describe_place(place: Place | None) -> str:
    place = place or UNKNOWN
    if isinstance(place, str):
        return place if place == UNKNOWN else "\n" + place.rstrip()
    code, offset = place
    line: int | None = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= offset < end and number is not None:
            line = number
    return f"{code.co_filename}:{line} in {code.co_qualname}"


def describe_borrower(reference: Reference | None) -> str:
    token = reference() if reference is not None else None
    if token is None:
        return "a thread that has ended"
    return token.description if isinstance(token, Token) else f"task {token.get_name()!r}"
