"""How one session with the server is made: credentials, login, set-up, all before a deadline.

One for a pool and process. It shares what is expensive or the same for all connections: the TLS contexts, and the
`Baseline` that the first one shows. It never counts connections, waits for one, or decides when to make one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pymysql import err
from pymysql.constants import ER

from .._pool.lease import Connection, learn_attributes
from .._util.log import logger
from ..settings import Settings
from . import dial, instrumented
from .exchange import CLIENT_SESSION_TRACK, is_between_commands
from .reset import Baseline
from .tls import SharedContext
from .wire import Wire

_CALLABLE_ARGUMENTS = ("user", "password", "host")


class Connector:
    def __init__(self, name: str, settings: Settings, arguments: Mapping[str, Any]) -> None:
        self._name = name
        self._settings = settings
        self._arguments = arguments
        self._asks_for_credentials = any(callable(arguments.get(argument)) for argument in _CALLABLE_ARGUMENTS)
        self._tls_contexts: dict[str, SharedContext] = {}
        self._converters: dict[str, Any] = {}
        self.baseline: Baseline | None = None  # known since the first connection

    def forget_certificates(self) -> None:
        """Read the files with certificates anew for the next connection, and resume no TLS session."""
        self._tls_contexts.clear()

    def make_wire(self, deadline: float) -> Wire:
        """Connect, log in and set up a session, all before `deadline`, a monotonic instant.

        Where a credential is a callable, a login that is refused is tried once more with what it says then: the
        password may have been rotated in between.

        Raises:
            pymysql.err.MySQLError: the server cannot be reached, refuses, or does not answer in time.
        """
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("Create new connection in pool(%s)", self._name)
        try:
            return self._log_in(deadline)
        except err.OperationalError as error:
            if error.args[0] != ER.ACCESS_DENIED_ERROR or not self._asks_for_credentials:
                raise
        return self._log_in(deadline)

    def _log_in(self, deadline: float) -> Wire:
        arguments = dict(self._arguments)
        if self._asks_for_credentials:
            for name in _CALLABLE_ARGUMENTS:
                if callable(value := arguments.get(name)):
                    arguments[name] = value()
        arguments["client_flag"] = arguments.get("client_flag", 0) | CLIENT_SESSION_TRACK
        connection = Connection.__new__(Connection)
        connection._pool = None
        connection._slot = None
        connection._tls_contexts = self._tls_contexts
        connection._reads_fast = self._settings.fast_reader
        connection.__init__(**arguments, defer_connect=True)  # type: ignore[misc]
        try:
            with connection.within(deadline):
                dial.establish(connection, deadline)
                baseline = self.baseline or Baseline(connection, self._settings.pipeline_reset)
                baseline.set_up(connection)
            self.baseline = baseline
            if self._settings.on_connect is not None:
                self._settings.on_connect(connection)
                if not is_between_commands(connection):
                    raise err.InterfaceError(0, "on_connect left the connection in the middle of an exchange")
            instrumented.notice(connection)
            wire = Wire(connection, self._converters)
            learn_attributes(wire.attributes().keys())
            return wire
        except BaseException:
            connection._force_close()
            raise
