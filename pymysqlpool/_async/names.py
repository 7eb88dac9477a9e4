"""The methods of a connection that users of aiomysql and asyncmy expect, in addition to our own.

Names, arguments and results are those of aiomysql, which took them from PyMySQL. What every session may ask for runs on
the event loop; `next_result` and `kill` take a worker thread. Never: keeps any state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pymysql.constants import COMMAND

from .._driver import steps as _steps
from .turn import Turn


class FieldsNames:
    """The other usual methods of an async MySQL connection."""

    lease: Any
    _turn: Turn
    # of `Exchanges` and `AsyncConnection`
    enter: Callable[[], Any]
    query_on: Callable[..., Any]
    note: Callable[[Any], None]
    _exchange_command: Callable[..., Any]
    _in_turn: Callable[..., Any]
    _left: Callable[[], None]

    @property
    def closed(self) -> bool:
        raise NotImplementedError

    async def run_sync(self, function: Any, *args: Any) -> Any:
        raise NotImplementedError

    async def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        """Run a statement without a cursor and return the number of affected rows."""
        self.note(sql)
        async with self._turn:
            session = await self.enter()
            if session is None or _steps.serves_file(self.lease, sql):
                return await self._in_turn(lambda: self.lease.query(sql, unbuffered))  # type: ignore[no-any-return]
            return await self.query_on(session, sql, unbuffered)  # type: ignore[no-any-return]

    async def next_result(self, unbuffered: bool = False) -> int:
        """Go to the next result of `query` and return the number of affected rows."""
        return await self.run_sync(lambda lease: lease.next_result(unbuffered))  # type: ignore[no-any-return]

    async def autocommit(self, value: bool) -> None:
        """Switch autocommit of this session on or off, until the connection is returned."""
        self.note("SET")
        async with self._turn:
            session = await self.enter()
            if session is None:
                await self._in_turn(lambda: self.lease.autocommit(value))
                return
            lease = self.lease
            lease.autocommit_mode = bool(value)
            if lease.get_autocommit() != lease.autocommit_mode:
                await self.query_on(session, f"SET AUTOCOMMIT = {lease.autocommit_mode:d}")

    def get_autocommit(self) -> bool:
        return bool(self.lease.get_autocommit())

    async def select_db(self, db: str) -> None:
        """Change the current database, until the connection is returned."""
        self.note("USE")
        async with self._turn:
            session = await self.enter()
            if session is None:
                await self._in_turn(lambda: self.lease.select_db(db))
            else:
                await self._exchange_command(session, COMMAND.COM_INIT_DB, db)

    async def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Change the session's character set, until the connection is returned."""
        self.note("SET")
        async with self._turn:
            session = await self.enter()
            if session is None:
                await self._in_turn(lambda: self.lease.set_character_set(charset, collation))
                return
            encoding = _steps.encoding_of(charset)
            sql = f"SET NAMES {charset}" + (f" COLLATE {collation}" if collation else "")
            try:
                await self.query_on(session, sql)
            except asyncio.CancelledError:
                if not self.closed:
                    self._left()  # the server may have changed it, and this side has not
                raise
            _steps.note_character_set(self.lease, charset, encoding, collation)

    set_charset = set_character_set

    async def show_warnings(self) -> Any:
        """Return the warnings of the last statement: rows of level, code, message."""
        self.note("SHOW WARNINGS")
        async with self._turn:
            session = await self.enter()
            if session is None:
                return await self._in_turn(lambda: self.lease.show_warnings())
            await self.query_on(session, "SHOW WARNINGS")
            return _steps.take_rows(self.lease)

    async def ensure_closed(self) -> None:
        """Return the connection to the pool, unless it was returned before."""
        await self.give_back(None)

    async def give_back(self, exception: BaseException | None) -> None:
        raise NotImplementedError

    async def kill(self, thread_id: int) -> Any:
        """End another session on the server."""
        return await self.run_sync(lambda lease: lease.kill(thread_id))

    def escape(self, obj: Any, mapping: Any = None) -> str:
        return self.lease.escape(obj, mapping)  # type: ignore[no-any-return]

    def literal(self, obj: Any) -> str:
        return self.lease.literal(obj)  # type: ignore[no-any-return]

    def escape_string(self, s: str) -> str:
        return self.lease.escape_string(s)  # type: ignore[no-any-return]

    def thread_id(self) -> int:
        """Return the session's id on the server, as CONNECTION_ID() shows it."""
        return self.lease.thread_id()  # type: ignore[no-any-return]

    def insert_id(self) -> int:
        return self.lease.insert_id()  # type: ignore[no-any-return]

    def affected_rows(self) -> int:
        return self.lease.affected_rows()  # type: ignore[no-any-return]

    def character_set_name(self) -> str:
        return self.lease.character_set_name()  # type: ignore[no-any-return]

    def get_host_info(self) -> str:
        return self.lease.get_host_info()  # type: ignore[no-any-return]

    def get_proto_info(self) -> int:
        return self.lease.get_proto_info()  # type: ignore[no-any-return]

    def get_server_info(self) -> str:
        return self.lease.get_server_info()  # type: ignore[no-any-return]

    def get_transaction_status(self) -> bool:
        """Return whether a transaction is open."""
        return bool(self.lease.server_status & 1)  # SERVER_STATUS_IN_TRANS

    @property
    def charset(self) -> str:
        return self.lease.charset  # type: ignore[no-any-return]

    @property
    def encoding(self) -> str:
        return self.lease.encoding  # type: ignore[no-any-return]

    @property
    def db(self) -> str | None:
        return _text(self.lease.db)

    @property
    def host(self) -> str:
        return self.lease.host  # type: ignore[no-any-return]

    @property
    def port(self) -> int:
        return self.lease.port  # type: ignore[no-any-return]

    @property
    def user(self) -> str | None:
        return _text(self.lease.user)

    @property
    def unix_socket(self) -> str | None:
        return self.lease.unix_socket  # type: ignore[no-any-return]

    @property
    def commit_token(self) -> str | None:
        """The position of this lease's last commit; see `Connection.commit_token`."""
        return self.lease.commit_token  # type: ignore[no-any-return]

    @property
    def server_status(self) -> int:
        return self.lease.server_status  # type: ignore[no-any-return]


def _text(name: Any) -> str | None:
    return name.decode() if isinstance(name, bytes) else name
