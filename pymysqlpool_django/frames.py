"""Where the search for the user's line begins.

A borrow notes the line of the user's code that needed it, for the messages that name the holders. Between that line and
the borrow stand a dozen frames of Django, of which the eight from `cursor()` on are always the same. A look at a frame
costs as much as fifteen bytecodes, so the search begins at `cursor()`, where that is in its place.

Never: keeps a frame.
"""

from __future__ import annotations

from sys import _getframe
from types import CodeType, FrameType
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper

_CURSOR: CodeType = cast(Any, BaseDatabaseWrapper.cursor).__wrapped__.__code__


def frame_of_cursor(between: int) -> FrameType | None:
    """Return the frame of the `cursor()` that the caller was called for, with so many frames in between; else None."""
    try:
        frame = _getframe(between + 2)
    except ValueError:
        return None  # there are not so many
    return frame if frame.f_code is _CURSOR else None
