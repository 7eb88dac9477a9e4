"""The private names of PyMySQL that this package relies on, with their types; its stubs know only the public ones.

Owns: nothing at run time, where these are PyMySQL's own classes. Never: lists a name that this package does not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymysql import connections, cursors

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
        _auth_plugin_map: dict[Any, Any]
        _deadline: float | None  # ours, see `deadline`
        _local_infile: bool
        max_allowed_packet: int
        server_version: str
        server_thread_id: tuple[int]
        salt: bytes
        _auth_plugin_name: str
        connect_timeout: float | None

        def _execute_command(self, command: int, sql: Any) -> None: ...
        def _read_packet(self, packet_type: Any = ...) -> Any: ...
        def _read_ok_packet(self) -> Any: ...
        def _write_bytes(self, data: bytes) -> None: ...
        def write_packet(self, payload: Any) -> None: ...
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

    class PyMySQLCursor:
        connection: Any
        lastrowid: Any
        _executed: Any
        _result: Any
        _rows: Any

        def __init__(self, connection: Any) -> None: ...
        def execute(self, query: Any, args: Any = None) -> Any: ...
        def _get_db(self) -> Any: ...
        def _query(self, q: Any) -> Any: ...
        def _nextset(self, unbuffered: bool = False) -> Any: ...
        def _mogrify(self, query: Any, args: Any) -> Any: ...
        def _do_get_result(self) -> None: ...
        def _do_execute_many(
            self, prefix: Any, values: Any, postfix: Any, args: Any, most: int, encoding: Any
        ) -> Any: ...

    class PyMySQLDictCursor(PyMySQLCursor):
        dict_type: Any
        _fields: list[str]

        def _conv_row(self, row: Any) -> Any: ...

else:
    PyMySQLConnection = connections.Connection
    PyMySQLCursor = cursors.Cursor
    PyMySQLDictCursor = cursors.DictCursor
    PyMySQLResult = connections.MySQLResult
