"""The private names of PyMySQL that this package relies on, with their types; its stubs know only the public ones.

Owns: nothing at run time, where these are PyMySQL's own classes. A name that is not here is not relied on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymysql import connections

if TYPE_CHECKING:

    class PyMySQLConnection(connections.Connection[Any]):
        _sock: Any
        _rfile: Any
        _result: Any
        _affected_rows: int
        _next_seq_id: int
        _read_timeout: float | None
        _write_timeout: float | None
        _current_timeout: float | None
        _secure: bool
        _deadline: float | None  # ours, see `deadline`
        _local_infile: bool
        max_allowed_packet: int
        server_version: str
        connect_timeout: float | None

        def _execute_command(self, command: int, sql: Any) -> None: ...
        def _read_packet(self, packet_type: Any = ...) -> Any: ...
        def _read_ok_packet(self) -> Any: ...
        def _write_bytes(self, data: bytes) -> None: ...
        def _process_auth(self, plugin_name: bytes, auth_packet: Any, *handler: Any) -> Any: ...
        def _create_ssl_ctx(self, sslp: Any) -> Any: ...
        def _force_close(self) -> None: ...
        def show_warnings(self) -> Any: ...

    class PyMySQLResult(connections.MySQLResult):
        connection: Any

        def _finish_unbuffered_query(self) -> None: ...
        def _read_load_local_packet(self, first_packet: Any) -> None: ...
        def _read_rowdata_packet_unbuffered(self) -> Any: ...
        def _check_packet_is_eof(self, packet: Any) -> bool: ...

else:
    PyMySQLConnection = connections.Connection
    PyMySQLResult = connections.MySQLResult
