"""Making a session with the server: credentials, login, set-up, all before one deadline.

Owns: what all connections of one pool in one process share: the TLS contexts, and the `Recipe`, which is made with
the first connection. Never: counts connections, waits for one, or decides when to make one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from sys import intern
from typing import Any

from pymysql import converters, err
from pymysql.constants import ER

from .._util.arguments import check_answer
from .._util.log import DEBUG, logger
from ..secrets import Secret, conceal, reveal
from ..settings import Settings
from . import brief_set_up, dial, instrumented, login_again
from .brief_set_up import BriefSetUp
from .dial import GiveUp
from .exchange import CLIENT_SESSION_TRACK, WireConnection
from .former_cursors import cursor_class
from .login_again import LoginAgain
from .recipe import Recipe
from .tls import SharedContexts
from .wire import Wire

_CALLABLE_ARGUMENTS = ("user", "password", "passwd", "host", "port")
_FILES = ("read_default_file", "read_default_group")


class Connector:
    """Makes the sessions of one pool in one process.

    Attributes:
        recipe: how they are set up; None until there was a first connection.
    """

    def __init__(
        self, name: str, settings: Settings, arguments: Mapping[str, Any], handle: Callable[[], WireConnection]
    ) -> None:
        """
        Args:
            handle: makes the connection object that `on_connect` is called with; of no pool, and without a session.
        """
        self._name = name
        self._settings = settings
        self._arguments = arguments
        self._asks_for_credentials = any(callable(arguments.get(argument)) for argument in _CALLABLE_ARGUMENTS)
        # The names of those that are; None where functions give the credentials.
        hidden = [name for name, value in arguments.items() if isinstance(value, Secret | dict)]
        self._concealed = None if self._asks_for_credentials else hidden
        self._tls_contexts = SharedContexts()
        self._converters: dict[str, Any] = {}
        self._conversions: Mapping[Any, Any] | None = None  # what those of `_converters` were made of
        # Whether all logins say the same: no argument is asked for anew, and no file is read for each.
        self._repeats = not (self._asks_for_credentials or any(arguments.get(name) for name in _FILES))
        self._again: LoginAgain | None = None
        self._brief: BriefSetUp | None = None
        self._may_be_brief = True  # until it is known that there is none
        self._refused = b""  # the statement of a brief set-up that was not confirmed
        self._handle = handle
        self.recipe: Recipe | None = None

    def learn_anew(self) -> None:
        """All connections are replaced: read the files with certificates anew for the next one, resume no TLS session,
        and learn again what the sessions are set to."""
        self._tls_contexts.forget()
        self._again, self._brief, self._may_be_brief, self._refused = None, None, True, b""
        if self.recipe is not None:
            self.recipe.forget_settings()

    def make_wire(self, deadline: float, give_up: GiveUp = None) -> Wire:
        """Connect, log in and set up a session, all before `deadline`, a monotonic instant.

        `give_up` is asked from time to time while the server has not answered at all; True ends the attempt.

        Where a credential is a callable and the login is refused, the callable is called again and the login retried
        once: the password may have been rotated in between.

        Raises:
            pymysql.err.MySQLError: the server cannot be reached, refuses, or does not answer in time.
        """
        if logger.isEnabledFor(DEBUG):
            said = {"event": "connect", "pool": self._name}
            logger.debug("Create new connection in pool(%s)", self._name, extra=said)
        try:
            return self._log_in(deadline, give_up)
        except err.OperationalError as error:
            if error.args[0] != ER.ACCESS_DENIED_ERROR or not self._asks_for_credentials:
                raise
        return self._log_in(deadline, give_up)

    def _log_in(self, deadline: float, give_up: GiveUp) -> Wire:
        conversions = self._arguments.get("conv")
        if conversions is None:
            conversions = converters.conversions
        are_known = conversions == self._conversions
        connection, greeting, said = self._logged_in(are_known, deadline, give_up)
        recipe, brief = self.recipe, self._brief
        if recipe is None or not recipe.knows_init_connect:
            brief = None
        try:
            if brief is None:
                recipe = recipe or Recipe(connection, self._settings, self._handle)
                with connection.within(deadline):
                    recipe.set_up(connection)
            elif brief.set_up(connection, deadline):
                connection._recipe = recipe
            else:
                connection._force_close()
                self._brief, self._refused = None, brief.statement
                return self._log_in(deadline, give_up)
            instrumented.notice(connection)
            status = connection.server_status
            wire = Wire(connection, self._converters)
        except BaseException:
            connection._force_close()
            raise
        assert recipe is not None
        try:
            is_new = bool(said and self._repeats) or (brief is None and self._may_be_brief)
            new = wire.attributes() if is_new else None
            recipe.finish(wire, deadline, status)
        except BaseException:
            wire.close(quiet=False)
            raise
        self.recipe = recipe
        if self._conversions is None:
            self._conversions = dict(conversions)
        if new is not None:
            self._learn(new, recipe, greeting, said)
        return wire

    def _logged_in(
        self, are_known: bool, deadline: float, give_up: GiveUp
    ) -> tuple[WireConnection, bytes, Sequence[bytes]]:
        """A connection that is logged in; where PyMySQL has done it, the server's greeting and what was sent.

        Args:
            are_known: the converters are those that the pool's connections share.
        """
        limit = self._settings.tcp_user_timeout
        again = self._again if are_known else None
        sock = dialled = None
        if again is not None:
            dialled = again.connection()
            sock = dial.reach(dialled, deadline, limit, give_up)
            if again.fits(sock.greeting):
                greeting, sock.greeting = sock.greeting, b""
                try:
                    if again.log_in(dialled, sock, greeting, deadline):
                        return dialled, b"", ()
                except BaseException:
                    dialled._force_close()
                    raise
                dialled._force_close()
                sock = None
        connection = self._connection(are_known)
        if sock is None or dialled is None:
            sock = dial.reach(connection, deadline, limit, give_up)
        else:
            connection.host_info, connection._secure = dialled.host_info, dialled._secure
        greeting = getattr(sock, "greeting", b"")
        with connection.within(deadline):
            said = dial.establish(connection, sock, deadline)
        return connection, greeting, said

    def _connection(self, are_known: bool) -> WireConnection:
        """PyMySQL's connection, not connected."""
        arguments = dict(self._arguments)
        if self._asks_for_credentials:
            asked = [name for name in _CALLABLE_ARGUMENTS if callable(arguments.get(name))]
            arguments = conceal({**arguments, **{name: _ask(name, arguments[name]) for name in asked}})
            for name in asked:
                check_answer(name, arguments)
        arguments["cursorclass"] = cursor_class(arguments.get("cursorclass"))
        arguments["client_flag"] = arguments.get("client_flag", 0) | CLIENT_SESSION_TRACK
        if are_known:
            arguments["conv"] = {}  # PyMySQL would sort them into decoders and encoders, which are shared
        connection = WireConnection.__new__(WireConnection)
        connection._tls_contexts = self._tls_contexts
        connection._reads_fast = self._settings.fast_reader
        connection._sends_clear_text = self._settings.allow_cleartext_password
        connection.__init__(**reveal(arguments, self._concealed), defer_connect=True)  # type: ignore[misc]
        if are_known:
            _share(connection, self._converters)
        return connection

    def _learn(self, new: dict[str, Any], recipe: Recipe, greeting: bytes, said: Sequence[bytes]) -> None:
        """Make later connections in less steps than this one, whose attributes were `new`."""
        if self._brief is None and self._may_be_brief:
            brief = brief_set_up.learn(new, recipe.steps())
            self._brief = None if brief is None or brief.statement == self._refused else brief
            self._may_be_brief = self._brief is not None
        if said and self._repeats:
            self._again = login_again.learn(new, greeting, said)


def _ask(name: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        note = f"The function that is the pool's {name}= has raised this."
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


def _share(connection: WireConnection, shared: Mapping[str, Any]) -> None:
    """Give `connection` the converters that its pool's connections share, in place of the empty ones that it has."""
    attributes = connection.__dict__
    for name in ("decoders", "encoders"):
        del attributes[name]
        attributes[intern(f"_pristine_{name}")] = shared[name]
