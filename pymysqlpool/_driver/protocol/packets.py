"""The packets of a reply, named after the manual: OK, ERR, EOF, LOCAL INFILE request.

One parser for each; all code that reads a reply uses it. A row is read in `rows`, a column definition in
`columns`. An object made here is also what a `pymysql.connections.MySQLResult` is to its connection and its cursor:
it has the same attributes.

For a malformed packet it raises what PyMySQL raises, by parsing it with PyMySQL's own class.

Owns: the parsers of these four packets. Never: receives, or decides what a packet means for the session.

Protocol: MySQL Internals, "Generic Response Packets", "LOCAL INFILE Request", "Protocol::LengthEncodedInteger".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NoReturn

from pymysql import err, protocol
from pymysql.constants import CR, SERVER_STATUS

CONTINUED = 0xFFFFFF  # a payload of so many bytes is continued in the next packet
MORE_RESULTS = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS
LOST = "Lost connection to MySQL server during query"

_read_status = struct.Struct("<HH").unpack_from
_read_short_ok = struct.Struct("<xBBHH").unpack_from  # of an OK whose two integers are short: all but its text
# EOF, the end of a result's column definitions or rows: (warnings, status flags) of its payload.
read_eof = struct.Struct("<xHH").unpack_from
_BARE_OK = b"\7\0\0\1\0\0\0"
_WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


class Reply:
    """What the replies have in common, as PyMySQL's cursor reads it."""

    connection: Any = None
    affected_rows: int | None = None
    insert_id: int | None = None
    server_status: int | None = None
    warning_count = 0
    message: bytes | None = None
    field_count = 0
    fields: Sequence[Any] = ()
    description: tuple[Any, ...] | None = None
    rows: Sequence[tuple[Any, ...]] | None = None
    has_next: int | None = None
    unbuffered_active = False

    def _read_rowdata_packet_unbuffered(self) -> tuple[Any, ...] | None:
        """The next row that its cursor has not seen: none."""
        return None

    def _finish_unbuffered_query(self) -> None:
        """Its cursor was closed: nothing is left to read."""


class OK(Reply):
    """A statement without a result: affected rows, insert id, status flags, warnings, text (`message`)."""

    server_status: int
    message: bytes
    is_whole = True

    def __init__(self, data: bytes, at: int, end: int) -> None:
        """Read the payload `data[at:end]`, whose first byte is 0 and which has 7 bytes at least."""
        affected_rows: int | None
        insert_id: int | None
        affected_rows, insert_id, self.server_status, self.warning_count = _read_short_ok(data, at)
        status = at + 3
        if affected_rows > 0xFA or insert_id > 0xFA:
            affected_rows, status = read_integer(data, at + 1)
            if status < end:
                insert_id, status = read_integer(data, status)
            if status + 4 > end:
                protocol.OKPacketWrapper(protocol.MysqlPacket(data[at:end], ""))  # raises
            self.server_status, self.warning_count = _read_status(data, status)
        self.affected_rows = affected_rows
        self.insert_id = insert_id
        self.message = data[status + 4 : end]
        self.has_next = self.server_status & MORE_RESULTS


class ERR:
    """An error packet, as the exception that PyMySQL makes of it. Also a reply with the same effect: a local file that
    could not be read."""

    def __init__(self, exception: Exception) -> None:
        self.exception = exception

    @classmethod
    def read(cls, payload: bytes) -> ERR:
        try:
            protocol.MysqlPacket(payload, "").raise_for_error()
        except err.MySQLError as error:
            return cls(error)
        raise AssertionError("PyMySQL raises for every error packet")


class LocalInfileRequest:
    """In reply to LOAD DATA LOCAL the server asks for the content of a file."""

    def __init__(self, payload: bytes) -> None:
        self.filename = payload[1:]

    def refuse(self) -> NoReturn:
        """Refuse: the server sent this in reply to a statement that asks for no file."""
        raise err.InternalError(
            CR.CR_MALFORMED_PACKET,
            f"the server asked for the content of the local file {self.filename!r} in reply to a statement that is no "
            "LOAD DATA LOCAL; nothing was sent",
        )

    @staticmethod
    def refuse_without_option() -> NoReturn:
        """As PyMySQL."""
        raise RuntimeError("**WARN**: Received LOAD_LOCAL packet but local_infile option is false.")


def status_of_bare_ok(data: bytes) -> int | None:
    """Return the status flags, where `data` is one OK packet, the first of a reply, with nothing else in it: no rows,
    no insert id, no warnings, no text. None for everything else."""
    if len(data) == 11 and data.startswith(_BARE_OK) and data.endswith(b"\0\0"):
        return data[7] | data[8] << 8
    return None


def is_eof(payload: bytes) -> bool:
    return payload[0] == 0xFE and len(payload) < 9


def is_ok(payload: bytes) -> bool:
    return payload[0] == 0 and len(payload) >= 7


def read_integer(data: bytes, at: int) -> tuple[int | None, int]:
    """The length-encoded integer at `at`, None for NULL, and where it ends."""
    value = data[at]
    at += 1
    if value < 0xFB:
        return value, at
    if value == 0xFB or value == 0xFF:  # which PyMySQL takes for NULL
        return None, at
    width = _WIDTHS[value]
    return int.from_bytes(data[at : at + width], "little"), at + width


def out_of_step(number: int, expected: int) -> err.MySQLError:
    """The error of a packet with the wrong number, as PyMySQL raises it."""
    if number == 0:  # a server that shuts down sends an error packet that nothing asked for
        return err.OperationalError(CR.CR_SERVER_LOST, LOST)
    return err.InternalError(f"Packet sequence number wrong - got {number} expected {expected}")
