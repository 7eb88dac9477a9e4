"""Fork detection: is this still the same process? Checked at every checkout (Invariant 13), so it must be cheap.

On Linux a page of memory that the kernel empties in every forked child (madvise(2), MADV_WIPEONFORK, Linux 4.14)
shows it without a system call, for every kind of fork; elsewhere `os.getpid()` is compared.

Owns: the mark of the process. Never: relies on a hook that runs at the fork.
"""

from __future__ import annotations

import mmap
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Mark(Protocol):
        """Its item 0 is true in the process that made it, and false in those forked from that."""

        def __getitem__(self, index: int, /) -> int: ...


_WIPE_ON_FORK = 18  # MADV_WIPEONFORK in Linux's mman-common.h; the mmap module does not name it


class _ProcessId:
    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return os.getpid() == self._pid


_latest: Mark = (0,)


def mark_process() -> Mark:
    """The mark of the calling process."""
    global _latest
    mark = _latest
    if not mark[0]:
        mark = _latest = _new_mark()
    return mark


def _new_mark() -> Mark:
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(_WIPE_ON_FORK)
        except OSError:
            page.close()  # an older kernel
        else:
            page[0] = 1
            return page
    return _ProcessId()
