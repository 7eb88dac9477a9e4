"""The file in which the pools of one process count, so that a process which is killed leaves exact counts behind.

Its memory is mapped: a count is one store, as into a list, and the system keeps it whatever ends the process. The file
is a sequence of blocks, of 8-byte words in the machine's order:

    word 0          a hash of what the cells mean; another version's file is not read
    each block:     number (0: none), words in it, bytes of the label, `CELLS` numbers as doubles, the label

Space is allocated before it is mapped, so that a full disk refuses a block and does not end the process at a store.
Where that is not possible (Windows, macOS, some network file systems), pools count in lists.

The process also holds a lock on the file, which ends with it and is seen where its number is not: from a container
with processes of its own.

A reader looks at the numbers of processes that have ended only. A process that was killed between the two stores of a
duration has counted it and not added it to the sum.

Never: waits, moves a block, is written by a forked child.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
import zlib
from contextlib import suppress
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any

from .._pool.counters import CELLS, LAYOUT
from .._pool.registry import Entry
from .reading import read_bytes

if sys.platform != "win32":
    import fcntl

SUFFIX = ".counts"
_WORD = 8  # bytes
_HEAD = 3  # words
_SEGMENT = 64 * 1024  # bytes, at least, that are allocated at once; a multiple of what can be mapped on any system
_numbers = count(1)  # of blocks; no two files of a process share one
_kept: list[mmap.mmap] = []  # for ever: each would close its handle, whose number may be another file's by then
_MAGIC = zlib.crc32(LAYOUT.encode())


class CountsFile:
    """The file of this process.

    Raises:
        OSError: it cannot be made, locked or allocated.
    """

    def __init__(self, path: Path) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        self.path = path
        self._pid = os.getpid()
        self._size = 0  # bytes
        self._entries: dict[int, tuple[Entry, memoryview]] = {}  # by number; with the words of the block
        self._free: list[memoryview] = []  # the words of blocks, each with its own size
        self._handle, made = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            # Locked before it has its name, so that no reader takes it for one of an ended process.
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._grow(made, _SEGMENT)
            self._identity = os.fstat(self._handle).st_ino
            os.replace(made, path)
        except BaseException:
            os.close(self._handle)
            os.unlink(made)
            raise

    @property
    def is_there(self) -> bool:
        """Whether the file has its name still, and this process its lock."""
        try:
            return os.stat(self.path).st_ino == self._identity == os.fstat(self._handle).st_ino
        except OSError:
            return False

    def add(self, entry: Entry) -> None:
        """Let the pool of `entry` count here, if it does not yet, here or elsewhere, and there is room."""
        pool = entry.pool()
        if pool is None or entry.block or entry.pid != self._pid:
            return
        label = pool.label.encode()
        size = _HEAD + CELLS + -(-len(label) // _WORD)
        with suppress(OSError):
            block = self._take(size)
            block[2] = len(label)
            cells = block[_HEAD : _HEAD + CELLS]
            block.cast("B")[(_HEAD + CELLS) * _WORD :][: len(label)] = label
            entry.counters.move_to(cells.cast("B").cast("d"))
            block[0] = entry.block = next(_numbers)
            self._entries[entry.block] = entry, block

    def ended(self) -> list[int]:
        """Return the numbers of the blocks of pools whose finalizer has run."""
        return [number for number, (entry, _) in self._entries.copy().items() if entry.ended is not None]

    def free(self, numbers: list[int]) -> None:
        """Let other pools have these blocks. Their counts are kept elsewhere."""
        for number in numbers:
            _, block = self._entries.pop(number)
            block[0] = 0
            self._free.append(block)

    def leave(self) -> None:
        """No pool counts here any more. In a forked child of the process too, where the numbers must not change."""
        for entry, block in self._entries.values():
            entry.counters.move_to(None)
            entry.block = 0
            if self._pid == os.getpid():
                block[0] = 0
        self._entries.clear()
        # An application that becomes a daemon closes all handles, and another file may have this number since then.
        with suppress(OSError):
            if os.fstat(self._handle).st_ino == self._identity:
                os.close(self._handle)

    def _take(self, size: int) -> memoryview:
        place = next((place for place, block in enumerate(self._free) if block[1] >= size), None)
        if place is None:
            self._grow(self.path, -(-size * _WORD // _SEGMENT) * _SEGMENT)
            place = -1
        block = self._free.pop(place)
        rest = block[1] - size
        if rest > _HEAD + CELLS:
            block[size], block[size + 1] = 0, rest  # before it becomes a block of its own
            block[1] = size
            self._free.append(block[size:])
        return block[: block[1]]

    def _grow(self, path: str | Path, size: int) -> None:
        # A handle of its own: a forked child keeps the mapping, and with it what it was made of, the lock included.
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(handle, self._size, size)
            mapped = mmap.mmap(handle, size, offset=self._size)
        finally:
            os.close(handle)
        _kept.append(mapped)
        words = memoryview(mapped).cast("Q")
        if not self._size:
            words[0] = _MAGIC
            words = words[1:]
        words[1] = len(words)
        self._size += size
        self._free.append(words)


def is_held(path: Path) -> bool | None:
    """Return whether a process holds the lock on the file; None: that cannot be told."""
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be anything
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def read(path: Path) -> dict[int, tuple[str, list[float]]]:
    """Return label and cells of each block, by number; nothing of a file that cannot be read."""
    found: dict[int, tuple[str, list[float]]] = {}
    try:
        content = memoryview(read_bytes(path))
        words = content[: len(content) // _WORD * _WORD].cast("Q")
        at, end = 1, len(words)
        if not end or words[0] != _MAGIC:
            return found
        while at + _HEAD + CELLS <= end:
            number, size, length = words[at : at + _HEAD]
            if number:
                cells: Any = words[at + _HEAD : at + _HEAD + CELLS].cast("B").cast("d")
                start = (at + _HEAD + CELLS) * _WORD
                if all(map(isfinite, cells)):
                    found[number] = str(content[start : start + length], "utf-8"), cells.tolist()
            if not size:
                break
            at += size
    except (OSError, ValueError):
        pass
    return found
