"""Results that PyMySQL reads by itself: where the pool's own reader is switched off (`fast_reader=False`).

Owns: reporting to the exchange where such a result ends, and what its EOF packet says. Never: drains a result whose
connection is given back (Invariant 10).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from pymysql import err
from pymysql.constants import CR, ER

from .protocol.packets import LocalInfileRequest
from .pymysql_names import PyMySQLResult


class WireResult(PyMySQLResult):
    """PyMySQL's result, which also says when the exchange is over and what the EOF packet's status was."""

    deferred = False  # its cursor is gone, and what it has not read is still to come

    def _check_packet_is_eof(self, packet: Any) -> bool:
        if not super()._check_packet_is_eof(packet):
            return False
        # EOF: 0xfe, warnings (2 bytes), status flags (2 bytes).
        warning_count, status = struct.unpack_from("<xHH", packet.get_all_data())
        self.server_status = status
        self.connection._reply_read(status, warning_count, 0, self.has_next)
        return True

    def _read_rowdata_packet_unbuffered(self) -> Any:
        if not self.unbuffered_active:
            return None
        with self.connection._reading():
            return super()._read_rowdata_packet_unbuffered()

    def _finish_unbuffered_query(self) -> None:
        """Called when its cursor is closed or collected: the rest is not wanted. No call waits for it: it is read only
        if another command follows, and a connection that is returned instead is discarded."""
        self.deferred = True

    def drain(self) -> None:
        """Read and forget what is left."""
        if self.unbuffered_active:
            with self.connection._reading():
                super()._finish_unbuffered_query()

    def abandon(self) -> None:
        """Its connection was given back."""
        self.__class__ = _AbandonedResult

    def _read_load_local_packet(self, first_packet: Any) -> None:
        connection = self.connection
        if connection._local_infile and not connection._serves_file:
            LocalInfileRequest(first_packet.get_all_data()).refuse()
        write = connection.__dict__.get("_write_bytes")  # of a deadline, if there is one
        connection.__dict__["_write_bytes"] = partial(_write_or_close, connection, write or connection._write_bytes)
        try:
            super()._read_load_local_packet(first_packet)
        except err.OperationalError as error:
            interrupt = error.__context__
            if isinstance(interrupt, BaseException) and not isinstance(interrupt, Exception):
                raise interrupt from None  # PyMySQL went on, to an error of its own
            # The local file could not be read: PyMySQL has sent the empty packet and read the server's reply to it.
            if error.args[0] == ER.FILE_NOT_FOUND and connection._sock is not None:
                connection._reply_failed(error)
            raise
        finally:
            del connection.__dict__["_write_bytes"]
            if write is not None:
                connection.__dict__["_write_bytes"] = write


class _AbandonedResult(WireResult):
    """An unbuffered result whose connection was returned half-read: it reads nothing more, not even when collected."""

    def __del__(self) -> None:
        pass


def _write_or_close(connection: Any, write: Callable[[bytes], None], data: bytes) -> None:
    """Write, or close when interrupted: PyMySQL would wait for a reply to half a packet."""
    if connection._sock is None:
        raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, "MySQL server has gone away")
    try:
        write(data)
    except BaseException:
        connection._force_close()
        raise
