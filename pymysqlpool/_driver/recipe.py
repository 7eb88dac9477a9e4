"""The recipe: how a session of the pool is set up.

A list of steps, run by the same code on a new session and on a used one (Invariant 21). The order is PyMySQL's, see
`pymysql.connections.Connection.connect`:

    1. of a used session only: ROLLBACK where a transaction may be open, COM_RESET_CONNECTION, the database, the role
    2. SET NAMES, sql_mode, and the session trackers that this package reads
    3. init_command
    4. autocommit
    5. on_connect
    6. ROLLBACK, if any of these has left a transaction open: a session is lent at a clean boundary

Owns: the steps, which of them a server supports, the role that a login gives. Never: decides when a session is reset,
or what a statement may have changed in it.

Step 1 is in `renewal`; it clears all other visible state, so 2 to 5 follow. A shorter step 2 is in `brief_set_up`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND

from ..errors import WrongRole
from ..settings import Settings
from . import character_set, commits, init_connect
from .commands import Command
from .exchange import WireConnection, is_between_commands
from .given_by_login import FIRST_QUESTION, QUESTION, given_again_by, limit_of_a_statement
from .renewal import FORGETS, ROLLBACK, Renewal
from .role import QUESTIONS, read
from .sameness import Sameness, look
from .server_version import server_version
from .session_state import IN_TRANSACTION, MAY_BE_READ_ONLY, OPAQUE
from .set_up_refusals import accepted, raise_news, says_read_only
from .statements import NOTHING, TRANSACTION
from .wire import Wire

_TRACKING = "session_track_state_change = 1"
_WHICH_SERVER: list[Command] = [(COMMAND.COM_QUERY, question.encode()) for question in QUESTIONS]
# After a SET that was answered with warnings: on MySQL the next statement takes them away, on MariaDB none does.
_FORGET_WARNINGS: Command = (COMMAND.COM_QUERY, b"DO 0")
_WHICH_INSERT_ID: Command = (COMMAND.COM_QUERY, b"SELECT LAST_INSERT_ID()")


class Recipe:
    """How a pool's sessions are set up. Made with the first connection, whose greeting shows the server's abilities.

    Attributes:
        can_reset: COM_RESET_CONNECTION and the steps after it make a session as new.
        tracks: it reports changes of the session state.
        pipelines: it takes several commands in one go.
        says_read_only: the server's default, init_command or on_connect makes transactions READ ONLY: 1792 is no news.
        autocommit: whether it is on in a session that is lent; known when the first one is ready.
        database: the pool's database, None if it has none.
        small_undo: the statement that undoes a changed autocommit and LAST_INSERT_ID(), None where only a reset does.
    """

    __slots__ = (
        "_asked",
        "_can_combine",
        "_character_set_in_doubt",
        "_forgets",
        "_handle",
        "_init_command",
        "_is_known",
        "_keeps_profiles",
        "_knows_reset",
        "_login_question",
        "_names",
        "_on_connect",
        "_reads",
        "_resets_always",
        "_sameness",
        "_sql_mode",
        "_tracking",
        "_wanted_autocommit",
        "_wanted_server",
        "_warns",
        "autocommit",
        "can_reset",
        "database",
        "knows_init_connect",
        "pipelines",
        "says_read_only",
        "small_undo",
        "tracks",
    )

    def __init__(self, connection: WireConnection, settings: Settings, handle: Callable[[], WireConnection]) -> None:
        """Read the server's abilities from the greeting in `connection`, which is logged in but not set up.

        Args:
            handle: makes the connection object that `on_connect` is called with.
        """
        version, is_mariadb = server_version(connection.server_version)
        self.can_reset = self._knows_reset = version >= ((10, 2, 4) if is_mariadb else (5, 7, 3))
        self.knows_init_connect = False
        self.tracks = version >= ((10, 2, 2) if is_mariadb else (5, 7, 4))
        self._tracking = [_TRACKING, commits.TRACKING[is_mariadb]] if settings.track_commits else [_TRACKING]
        wanted = settings.pipeline_reset
        self.pipelines = is_mariadb or version >= (8, 0) if wanted is None else wanted
        has_roles = version >= ((10, 1, 1) if is_mariadb else (8, 0))
        self._login_question: list[Command] = [QUESTION[is_mariadb]] if has_roles else []
        self._can_combine = True
        self._is_known = self._warns = False
        self._sameness = Sameness()
        self._handle = handle
        self._on_connect = settings.on_connect
        self._resets_always = settings.reset == "always"
        self._keeps_profiles = is_mariadb
        self._forgets: Sequence[Command] = [] if is_mariadb else FORGETS
        self._wanted_server = settings.role
        self._asked = _WHICH_SERVER if settings.role != "any" or settings.track_commits else []
        self._wanted_autocommit: bool | None = connection.autocommit_mode
        self.autocommit = False
        self.small_undo: bytes | None = None
        database = connection.db
        self.database: bytes | None = database.encode() if isinstance(database, str) else database
        init_command = connection.init_command
        self._init_command: bytes | None = (
            init_command.encode(connection.encoding) if isinstance(init_command, str) else init_command
        ) or None
        self.says_read_only = False
        self._reads = settings.reset == "auto"  # in which alone the reading of statements decides
        self._character_set_in_doubt = self._reads and not character_set.leaves_it(self._init_command)
        self._names = f"NAMES {connection.charset}"
        if connection.collation:
            self._names += f" COLLATE {connection.collation}"
        self._sql_mode = None if connection.sql_mode is None else f"sql_mode = {connection.escape(connection.sql_mode)}"

    # -- a new session -------------------------------------------------------------------------------------

    def set_up(self, connection: WireConnection) -> None:
        """Steps 2 to 4 of a session that is logged in: one round trip, two for a pool's first with an init_command.

        Raises:
            WrongRole: the server does not have the pool's `role`.
            pymysql.err.MySQLError: a step was refused.
        """
        asked, is_first = self._asked, not self.knows_init_connect
        question = [FIRST_QUESTION[self._keeps_profiles]] if is_first and self._login_question else self._login_question
        if self._is_known:
            results = self._execute(connection, [*question, *self.steps()])
            server = results[len(question) : len(question) + len(asked)]
        else:
            results = self._learn(connection, question)
            server = self._execute(connection, [*asked, *self._rest()])[: len(asked)]
        if asked:
            self._judge_server(connection, server)
        answer = results[0] if self._login_question else None
        if is_first:
            said, read_only = (None, 0) if answer is None else answer.rows[0][3:]
            self.says_read_only = says_read_only(self._init_command) or bool(read_only)
            again = init_connect.is_set_again(said, self._init_command, self._wanted_autocommit is not None)
            self.can_reset, self.knows_init_connect = self._knows_reset and again, True
        connection._login = given_again_by(answer, connection.client_flag, sets_sql_mode=self._sql_mode is not None)
        connection._limit, connection._tracked = limit_of_a_statement(answer), self.tracks
        if len(self._tracking) > 1:
            role = connection._server_role
            connection._tracks_commits = self.tracks and role is not None and role.gtids
            connection._commit_token = None if connection._tracks_commits else commits.UNKNOWN
        connection._recipe = self

    def finish(self, wire: Wire, deadline: float, status: int) -> None:
        """Steps 5 and 6, on a session whose last reply had this `status`; both are for few pools."""
        if self._on_connect is not None:
            connection = wire.lend_for_set_up(self._handle())
            with connection.within(deadline):
                watch = character_set.Watch(connection, self._character_set_in_doubt) if self._reads else None
                self._on_connect(connection)
                if connection._sock is not wire.sock or not is_between_commands(connection):
                    raise err.InterfaceError(0, "on_connect left the connection in the middle of an exchange")
                self.says_read_only = self.says_read_only or bool(connection._marks & MAY_BE_READ_ONLY)
                self._leave_no_transaction(connection)
                if watch is not None:
                    watch.settle(connection)
            status = connection.server_status
            wire.adopt(connection)
        elif status & IN_TRANSACTION or self._character_set_in_doubt:
            connection = wire.borrow_privately()
            with connection.within(deadline):
                self._leave_no_transaction(connection)
                if self._character_set_in_doubt:
                    wire.read_by(character_set.asked(connection))
            wire.take_back(connection)
        if not self._is_known:
            self._know(wire, deadline)

    def ask_server(self, connection: WireConnection) -> None:
        """Ask the server of an idle session for its role again: two commands, one round trip.

        Raises:
            WrongRole: the server no longer has the pool's `role`.
        """
        self._judge_server(connection, self._execute(connection, _WHICH_SERVER))

    def _judge_server(self, connection: WireConnection, results: Sequence[Any]) -> None:
        role = read([result.rows for result in results])
        connection._server_role = role
        if not role.fits(self._wanted_server):
            raise WrongRole(self._wanted_server, role.ready and not role.donor, role.said)

    def _learn(self, connection: WireConnection, question: Sequence[Command]) -> list[Any]:
        """Step 2 of a pool's first session, and its role: find out what the server, or a proxy in front of it,
        understands. Refused statements are not sent again.

        The error numbers differ (1193, 1064, 1105, 1227 ...), so the number is no part of the answer.
        """
        commands = [*question, *self._forgets, *self._basics()]
        batches = [commands] if self.pipelines else [[command] for command in commands]
        results = [result for batch in batches for result in connection.outcomes(batch)]
        raise_news(results)
        answers = dict(zip(commands, results, strict=True))
        self._forgets = [command for command in self._forgets if not isinstance(answers[command], Exception)]
        if isinstance(results[-1], Exception):
            self.tracks = False
            (again,) = connection.outcomes(self._basics())
            if isinstance(again, Exception):
                self._can_combine = False
                self._execute(connection, self._basics())
        elif results[-1].warning_count:
            self._warns = True
            self._execute(connection, [_FORGET_WARNINGS])
        if not getattr(results[0], "rows", None):
            self._login_question = []
        return results

    def _know(self, wire: Wire, deadline: float) -> None:
        """The first session is ready to be lent: note what all of them look like."""
        self.autocommit = bool(wire.autocommit_status)
        forget_id = "last_insert_id = 0"
        if self._on_connect is not None or self._init_command is not None:
            connection = wire.borrow_privately()
            with connection.within(deadline):
                (inserted,) = connection.outcomes([_WHICH_INSERT_ID])
            wire.take_back(connection)
            if isinstance(inserted, Exception) or inserted.rows != ((0,),):
                forget_id = ""
        if forget_id:
            self.small_undo = f"SET {forget_id}, autocommit = {self.autocommit:d}".encode()
        self._is_known = True

    # -- a used session ------------------------------------------------------------------------------------

    def renewal(self, attributes: Mapping[str, Any]) -> Renewal:
        """The commands that renew a session whose last handle had these `attributes`, without those of `_rest`."""
        is_opaque = self._resets_always or attributes["_marks"] & OPAQUE == OPAQUE
        forgets = [*self._forgets] if is_opaque else []
        if self._resets_always:
            forgets += self._login_question  # FOUND_ROWS() is of it then, as in a new session
        asks_for_profiles = is_opaque and self._keeps_profiles
        return Renewal(attributes, self.database, self._basics(), forgets, asks_for_profiles=asks_for_profiles)

    @property
    def renews_by_commands(self) -> bool:
        """Whether the commands of `renewal`, and nothing else, renew a session."""
        return (
            self._on_connect is None
            and self._init_command is None
            and self._is_known
            and not self._sameness.is_asked_for
        )

    def renew(self, wire: Wire, attributes: dict[str, Any], deadline: float) -> None:
        """All steps, on a session that was used; `attributes` are those of its last handle.

        One round trip; one more for a transaction that may be open with an init_command, and on_connect's own.

        Raises:
            pymysql.err.MySQLError: the session cannot be made as new, or is in no known state.
        """
        renewal, rest = self.renewal(attributes), self._rest()
        connection = wire.lend_for_set_up(WireConnection.__new__(WireConnection))
        with connection.within(deadline):
            both = renewal.commands if renewal.in_transaction else [*renewal.commands, *rest]
            results = self._execute(connection, both)
            if renewal.in_transaction and rest:
                self._execute(connection, rest)
            renewal.check(connection, results)
        status = connection.server_status
        wire.take_back(connection)
        self.finish(wire, deadline, status)
        if self._sameness.is_asked_for and not self._compare(wire, deadline):
            self.renew(wire, {**attributes, "_marks": NOTHING}, deadline)

    def forget_settings(self) -> None:
        """The server's defaults may be others now: no SET is free before they were looked at again."""
        self._sameness = Sameness()
        self.knows_init_connect = False

    def holds_after(self, statement: bytes) -> bool:
        """Whether `statement` sets a session to what this recipe has set it to: nothing to undo."""
        return self._sameness.holds_after(statement)

    def _compare(self, wire: Wire, deadline: float) -> bool:
        """Find out, on a session that is as new, what SET would change nothing. False when finding out changed it."""
        asking = self._sameness
        connection = wire.borrow_privately()
        with connection.within(deadline):
            is_same, found = look(connection, self._names)
        wire.take_back(connection)
        if self._sameness is asking:  # else they were forgotten meanwhile
            self._sameness = found
        return is_same

    # -- the steps -----------------------------------------------------------------------------------------

    def steps(self) -> list[Command]:
        """The server's role, where the pool asks for it, and steps 2 to 4."""
        return [*self._asked, *self._basics(), *self._rest()]

    def _basics(self) -> list[Command]:
        """SET NAMES, sql_mode, trackers, and autocommit if no init_command comes before it. None touches a table."""
        settings = [self._names]
        if self._sql_mode is not None:
            settings.append(self._sql_mode)
        if self._init_command is None and self._wanted_autocommit is not None:
            settings.append(f"autocommit = {self._wanted_autocommit:d}")
        if self.tracks:
            settings += self._tracking
        if self._can_combine:
            settings = [", ".join(settings)]  # each would cost a statement of its own
        commands = [(COMMAND.COM_QUERY, f"SET {setting}".encode()) for setting in settings]
        return [*commands, _FORGET_WARNINGS] if self._warns else commands

    def _rest(self) -> list[Command]:
        if self._init_command is None:
            return []
        commands: list[Command] = [(COMMAND.COM_QUERY, self._init_command)]
        settings = [] if self._wanted_autocommit is None else [f"autocommit = {self._wanted_autocommit:d}"]
        settings += self._tracking if self.tracks else []  # which init_command may have switched off
        if settings:
            commands.append((COMMAND.COM_QUERY, f"SET {', '.join(settings)}".encode()))
        return commands

    def _execute(self, connection: WireConnection, commands: Sequence[Command]) -> list[Any]:
        results: list[Any] = []
        for batch in [commands] if self.pipelines else [[command] for command in commands]:
            results += accepted(batch, connection.outcomes(batch), self._init_command)
        return results

    def _leave_no_transaction(self, connection: WireConnection) -> None:
        if connection.server_status & IN_TRANSACTION or connection._marks & TRANSACTION:
            connection.pipeline([ROLLBACK])
            if connection.server_status & IN_TRANSACTION:
                raise err.InternalError("the set-up of the session leaves a transaction open, which no ROLLBACK ends")
