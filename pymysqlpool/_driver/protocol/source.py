"""The bytes from the server that were received and not read yet, and the next packet of them.

Owns: the buffer, the position in it, and the number that the next packet must have. Never: receives.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Any

from .packets import CONTINUED, out_of_step

_read_header = struct.Struct("<I").unpack_from


class Source:
    __slots__ = ("buffer", "end", "latest", "position", "sequence")

    def __init__(self) -> None:
        self.buffer = b""
        self.position = 0
        self.sequence = 1  # of the next packet, modulo 256; a command is number 0, so its reply begins with 1
        self.end = b""  # the payload of the EOF packet that `decode_rows` has come to
        self.latest: Any = None  # the `Columns` of the last result, which are often those of the next

    def feed(self, data: bytes) -> None:
        """Add `data`, as it was received. What is unread is copied: while much is waited for, gather it first."""
        if self.position == len(self.buffer):
            self.buffer = data
        else:
            self.buffer = self.buffer[self.position :] + data
        self.position = 0

    def pack(self, payload: bytes) -> bytes:
        """The next packet from here to the server, in the middle of a reply."""
        packet = struct.pack("<I", len(payload) | self.sequence << 24) + payload
        self.sequence = (self.sequence + 1) & 0xFF
        return packet

    @property
    def unread(self) -> int:
        """How many bytes are there."""
        return len(self.buffer) - self.position


Steps = Generator[Any, Any, Any]  # see `reply`


def packet(source: Source) -> Steps:
    """The next packet's payload, whatever it is."""
    parts = []
    while True:
        if len(source.buffer) - source.position < 4:
            yield 4
        header = _read_header(source.buffer, source.position)[0]
        length = header & CONTINUED
        number = header >> 24
        if number != source.sequence:
            raise out_of_step(number, source.sequence)
        source.sequence = (number + 1) & 0xFF
        if len(source.buffer) - source.position < 4 + length:
            yield 4 + length
        start = source.position + 4
        source.position = start + length
        parts.append(source.buffer[start : start + length])
        if length < CONTINUED:
            return parts[0] if len(parts) == 1 else b"".join(parts)
