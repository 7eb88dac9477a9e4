"""How a command looks on the wire: its header, its number, its argument.

Owns: the COM_ numbers that PyMySQL does not name, and the one way to pack a command. Never: sends one.

Protocol: MySQL Internals, "Protocol Basics" (a packet is a 3-byte length, a sequence number and a payload) and
"Command Phase" (the payload is a COM_ number and its argument; COM_RESET_CONNECTION 0x1f, MySQL 5.7.3+, MariaDB
10.2.4+).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import starmap

from pymysql.constants import COMMAND

# A command: its COM_ number and its argument.
Command = tuple[int, bytes]

COM_QUERY = COMMAND.COM_QUERY
COM_RESET_CONNECTION = 0x1F
LARGEST_STATEMENT = 0xFFFFFF - 1  # bytes that go in one packet

pack_header = struct.Struct("<iB").pack  # 3 bytes of length, the packet's number 0, the command


def pack(command: int, argument: bytes = b"") -> bytes:
    """One command in one packet; `argument` has at most `LARGEST_STATEMENT` bytes."""
    return pack_header(len(argument) + 1, command) + argument


def pack_all(commands: Sequence[Command]) -> bytes:
    """Commands that are sent in one go: a pipeline."""
    return b"".join(starmap(pack, commands))
