"""Methods of mysqlclient's connection that PyMySQL's lacks, for packages written against `MySQLdb`.

Owns `escape_string()` and its kin. They return text where mysqlclient returns bytes, as all of PyMySQL does; for bytes
they return bytes. PyMySQL has the others that such packages call: `thread_id()`, `insert_id()`,
`affected_rows()`, `get_server_info()`, `get_host_info()`, `character_set_name()`, `select_db()`, `ping()`.

Never: adds `fileno()`, which Celery would close; offers the calls of libmysqlclient that split a query in two
(`send_query()`, `store_result()`, `use_result()`).

Protocol: MySQL Internals, COM_STATISTICS (its reply is one packet of plain text), OK packet (`info`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from pymysql.constants import COMMAND

from .exchange import CLIENT_SESSION_TRACK, WireConnection


class MysqlclientNames(WireConnection):
    """A connection with mysqlclient's names as well."""

    __slots__ = ()

    if TYPE_CHECKING:  # the stubs lack them
        server_capabilities: int

        def _escape_string(self, s: str) -> str: ...
    elif not hasattr(WireConnection, "_escape_string"):  # before PyMySQL 1.2.1 that was its public name
        _escape_string = WireConnection.escape_string

    @overload
    def escape_string(self, value: str) -> str: ...
    @overload
    def escape_string(self, value: bytes) -> bytes: ...
    def escape_string(self, value: str | bytes) -> str | bytes:
        """`value` escaped for use between single quotes, by the rules of the session's sql_mode."""
        if isinstance(value, str):
            return self._escape_string(value)
        # By characters, not by bytes: in GBK or Shift-JIS the second byte of a character may be a backslash.
        text = value.decode(self.encoding, "surrogateescape")
        return self._escape_string(text).encode(self.encoding, "surrogateescape")

    def string_literal(self, value: object) -> str:
        """`str(value)`, escaped and quoted."""
        return f"'{self._escape_string(str(value))}'"

    def literal(self, value: object) -> str:
        """`value` as SQL text, as `execute()` would insert it."""
        return str(self.escape(value))

    def info(self) -> str | None:
        """The text in the server's last OK packet, as `"Rows matched: 3  Changed: 1  Warnings: 0"`; often None."""
        message: bytes = self._last_result("message") or b""
        if message and self.client_flag & self.server_capabilities & CLIENT_SESSION_TRACK:
            # A length-encoded string, and what changed in the session after it.
            at, length = (1, message[0]) if message[0] < 251 else (3, int.from_bytes(message[1:3], "little"))
            message = message[at : at + length]
        return message.decode(self.encoding, "replace") or None

    def field_count(self) -> int:
        """The number of columns of the last result; 0 when the last statement had none."""
        return self._last_result("field_count") or 0

    def warning_count(self) -> int:
        """The number of warnings of the last statement."""
        return self._last_result("warning_count") or 0

    def _last_result(self, name: str) -> Any:
        self._refuse_if_closed()
        return getattr(self._result, name, None)

    def stat(self) -> str:
        """The server's uptime, threads, questions and the like, as one line of text.

        Raises:
            pymysql.OperationalError: the connection is lost.
        """
        self._execute_command(COMMAND.COM_STATISTICS, b"")
        line: bytes = self._read_packet().get_all_data()
        self._end_exchange()
        return line.decode(self.encoding, "replace")

    @property
    def converter(self) -> dict[Any, Any]:
        """The converters of both directions, by column type and by Python type."""
        return {**self.decoders, **self.encoders}
