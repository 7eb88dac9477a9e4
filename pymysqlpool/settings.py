"""The settings of a pool: every option once, with its default, unit and bound.

Options are accepted as written or refused with an error that names the option, the value and the bound
(Invariant 17); nothing is corrected silently. What is not an option of the pool is an argument for
`pymysql.connections.Connection`; `arguments.py` checks those, so that errors are reported when the pool is made, not at
the first request.

Owns: the options of the pool. Never: connects, prints a password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ._util import arguments, functions
from ._util.record import Record
from .errors import SettingsError
from .secrets import conceal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .options import DeadlockMode, Hook, ResetMode, RoleWanted


DEFAULT_SIZE = 10
DEFAULT_MAXSIZE = 100
RETRY_NUM, RETRY_INTERVAL = 3, 0.1  # the defaults of `get_connection`
_LARGEST = 10**15  # seconds; beyond it Python refuses to count with floats
LONGEST_USER_TIMEOUT = 65534  # seconds: the first keep-alive probe is sent after half of it, and Linux takes 32,767


class Settings(Record):
    """The options of a pool. All times are seconds.

    Attributes:
        size: connections that are opened on demand, without waiting first; 0: a caller always waits for a return first.
            Not given: 10, or `maxsize` if that is less.
        maxsize: the bound, never exceeded; between `size` and `maxsize` a caller first waits for a return.
        name: shown in messages; default host-port-user-database.
        pre_create_num: connections made by the constructor; never more than `maxsize`.
        con_lifetime: age at which a connection is replaced, shortened at random by up to 5 % so that not all go at
            once; 0, negative or None: no limit. Keep it below the server's `wait_timeout`.
        max_uses: a connection is replaced after it was borrowed so often, against memory that a server's session
            gathers; None: no limit.
        timeout: default for `get_connection(timeout=...)`; None: the patience of pymysql-pool (`retry_num *
            retry_interval`).
        max_idle: an idle connection beyond `size` is closed after this time; None: kept for its lifetime.
        keepalive: an idle connection is pinged when it has been idle for this long, so that NATs and load balancers do
            not forget it; None: never. Starts the thread of `background`.
        background: look after idle connections in a daemon thread, started at the first borrow. Without it the same is
            done by returning threads, at most once a second, when the pool is used.
        max_waiting: callers that may wait at once; beyond it `PoolOverloaded` is raised at once. None: no limit.
        pre_ping: ask the server before lending: False never, True always, a number: when idle longer than that.
            A dead socket is noticed without it; it is for networks that drop packets silently.
        reset: what cleans a session on return. "auto": only what was touched, by the cheapest sufficient means;
            "always": COM_RESET_CONNECTION each time; "never": only ROLLBACK.
        reset_timeout: bound on cleaning a session on return; when it is over the connection is discarded.
        pipeline_reset: send COM_RESET_CONNECTION and what must follow it in one go. None: where known to be safe
            (MariaDB, and MySQL from 8.0); False where a proxy in between is known to hang.
        fast_reader: read results by the pool's own protocol core, which gives what PyMySQL's reader gives, in less
            time. False: by PyMySQL's.
        role: which server's connections may be lent. "any": every server; "ready": one that serves queries (a Galera
            node in a quorum); "primary": one that is ready and takes writes; "replica": one that is ready and
            read-only. Asked in the set-up of each new session, at no round trip of its own. A server of another role is
            like one that cannot be reached: callers wait for a right one within their time.
        role_check: seconds after which a connection's server is asked for its role again when it is lent, at a round
            trip. Without effect with role="any".
        track_commits: have the server report the global transaction id of each commit, for
            `connection.commit_token`. A `Cluster` sets it.
        tcp_user_timeout: a connection over TCP ends when the server's machine has acknowledged nothing for so long, be
            it data or a keep-alive probe: the machine or the way to it is gone. A statement may take longer. None:
            after the system's own time, which is minutes to hours.
        allow_cleartext_password: send the password in clear text, without encryption, to a server that asks for that
            (plugin `mysql_clear_password`, PAM's `dialog`). Over TLS and a unix socket it is sent in any case.
        fail_fast: while the server is down, or full and the pool has no connection, refuse at once with the real cause
            instead of waiting for it.
        deadlock: what happens when every connection is held by a thread that itself waits for another one (nested
            borrowing), of this pool or, round about, of others in this process. "warn": a warning in the log, and the
            waits go on, because a connection that was handed to another thread and not yet used there may still come
            back; "raise": the last one that came gets `PoolDeadlock`, so that the others can go on. Looked at when a
            wait has lasted half a second; waits of asyncio tasks are not.
        record_stacks: keep the whole stack of each borrow for reports (slow), not only the place.
        on_connect: called with a connection, as part of the set-up of its session, so again after a reset. An error in
            it discards the connection and, if that is a new one, reaches the borrower. No hook is called with the
            pool's lock held.
        on_checkout: called with each connection before it is lent. An error in it ends the borrow and reaches the
            borrower; the connection stays in the pool.
        on_checkin: called with each connection that is given back. An error in it discards the connection.
        on_discard: called with the reason, as text, for each connection that is closed: a value of `reuse.Reason`.
    """

    size: int = DEFAULT_SIZE
    maxsize: int = DEFAULT_MAXSIZE
    name: str | None = None
    pre_create_num: int = 0
    con_lifetime: float | None = 3600
    max_uses: int | None = None
    timeout: float | None = None
    max_idle: float | None = None
    keepalive: float | None = None
    background: bool = False
    max_waiting: int | None = None
    pre_ping: bool | float = False
    reset: ResetMode = "auto"
    reset_timeout: float = 5.0
    pipeline_reset: bool | None = None
    fast_reader: bool = True
    role: RoleWanted = "any"
    role_check: float = 5.0
    track_commits: bool = False
    tcp_user_timeout: float | None = 60.0
    allow_cleartext_password: bool = False
    fail_fast: bool = False
    deadlock: DeadlockMode = "warn"
    record_stacks: bool = False
    on_connect: Hook | None = None
    on_checkout: Hook | None = None
    on_checkin: Hook | None = None
    on_discard: Hook | None = None

    def __post_init__(self) -> None:
        _whole("maxsize", self.maxsize, 1)
        _whole("size", self.size, 0)
        if self.size > self.maxsize:
            raise SettingsError(f"size={self.size} is larger than maxsize={self.maxsize}")
        _whole("pre_create_num", self.pre_create_num, 0)
        _optional(_whole, "max_uses", self.max_uses, 1)
        _optional(_whole, "max_waiting", self.max_waiting, 0)
        _optional(seconds, "timeout", self.timeout, 0.0)
        _optional(seconds, "max_idle", self.max_idle, 0.0)
        _optional(seconds, "keepalive", self.keepalive, 0.001)
        _optional(seconds, "con_lifetime", self.con_lifetime, None)
        _optional(seconds, "tcp_user_timeout", self.tcp_user_timeout, 1.0)
        if self.tcp_user_timeout is not None and self.tcp_user_timeout > LONGEST_USER_TIMEOUT:
            raise SettingsError(
                f"tcp_user_timeout={self.tcp_user_timeout!r} must be at most {LONGEST_USER_TIMEOUT} seconds, or None"
            )
        seconds("reset_timeout", self.reset_timeout, 0.001)
        if not isinstance(self.pre_ping, bool):
            seconds("pre_ping", self.pre_ping, 0.001)
        if self.name is not None:
            if not isinstance(self.name, str):
                raise SettingsError(f"name={self.name!r} must be a string")
            arguments.sendable("name", self.name)
        if self.reset not in ("auto", "always", "never"):
            raise SettingsError(f"reset={self.reset!r} must be 'auto', 'always' or 'never'")
        if self.role not in ("any", "ready", "primary", "replica"):
            raise SettingsError(f"role={self.role!r} must be 'any', 'ready', 'primary' or 'replica'")
        seconds("role_check", self.role_check, 0.0)
        if self.deadlock not in ("warn", "raise"):
            raise SettingsError(f"deadlock={self.deadlock!r} must be 'warn' or 'raise'")
        for flag in (
            "allow_cleartext_password",
            "background",
            "fast_reader",
            "fail_fast",
            "record_stacks",
            "track_commits",
        ):
            if not isinstance(getattr(self, flag), bool):
                raise SettingsError(f"{flag}={getattr(self, flag)!r} must be True or False")
        if self.pipeline_reset is not None and not isinstance(self.pipeline_reset, bool):
            raise SettingsError(f"pipeline_reset={self.pipeline_reset!r} must be True, False or None")
        for hook in ("on_connect", "on_checkout", "on_checkin", "on_discard"):
            if getattr(self, hook) is not None:
                functions.check(hook, getattr(self, hook), "reason" if hook == "on_discard" else "connection")


OPTION_NAMES = frozenset(Settings.__match_args__)


def split(options: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Split `options` into the pool's settings and the arguments for PyMySQL, refusing what neither accepts.

    Passwords among them come out concealed.

    Raises:
        SettingsError: an option is unknown or out of bounds, contradicts another, or PyMySQL would refuse it.
    """
    options = conceal(options)
    unknown = sorted(set(options) - OPTION_NAMES - arguments.NAMES)
    if unknown:
        from difflib import get_close_matches  # imported here: rarely needed

        known = sorted(OPTION_NAMES | arguments.NAMES)
        meant = [f"{name!r}" for word in unknown for name in get_close_matches(word, known, 1)]
        hint = f" (did you mean {', '.join(meant)}?)" if meant else ""
        raise SettingsError(
            f"unknown option {', '.join(map(repr, unknown))}{hint}; the pool's options are "
            f"{', '.join(sorted(OPTION_NAMES))}; all others are pymysql.connect()'s"
        )
    own = {name: value for name, value in options.items() if name in OPTION_NAMES}
    if own.get("size") is None:
        most = own.get("maxsize", DEFAULT_MAXSIZE)
        own["size"] = min(DEFAULT_SIZE, most) if type(most) is int and most >= 1 else DEFAULT_SIZE
    settings = Settings(**own)
    connect_args = {name: value for name, value in options.items() if name in arguments.NAMES}
    arguments.check(connect_args)
    if not arguments.RARE.isdisjoint(connect_args):
        from ._util import rare_arguments  # here: most pools are given none of them

        rare_arguments.check(connect_args)
    arguments.dry_run(connect_args)
    connect_args.pop("defer_connect", None)  # False, PyMySQL's default
    if connect_args.get("autocommit") is not None:
        connect_args["autocommit"] = bool(connect_args["autocommit"])  # any truth value, as PyMySQL takes it
    return settings, connect_args


def default_name(connect_args: Mapping[str, Any]) -> str:
    """host-port-user-database, the default of pymysql-pool; a unix socket replaces host and port."""
    endpoint = connect_args.get("unix_socket") or f"{_host(connect_args)}-{_port(connect_args)}"
    user = connect_args.get("user") or ""
    database = connect_args.get("database") or connect_args.get("db") or ""
    if callable(user):
        user = "(callable)"
    return f"{endpoint}-{user}-{database}"


def label_of(connect_args: Mapping[str, Any]) -> str:
    """host:port/database, for metrics; a unix socket is on localhost."""
    database = connect_args.get("database") or connect_args.get("db") or ""
    place = "localhost" if connect_args.get("unix_socket") else f"{_host(connect_args)}:{_port(connect_args)}"
    return f"{place}/{database}" if database else place


def endpoint_of(connect_args: Mapping[str, Any]) -> str:
    """The address of the server, for messages."""
    socket_path = connect_args.get("unix_socket")
    if socket_path:
        return str(socket_path)
    return f"{_host(connect_args)}:{_port(connect_args)}"


def _host(connect_args: Mapping[str, Any]) -> str:
    host = connect_args.get("host") or "localhost"
    return "(callable)" if callable(host) else str(host)


def _port(connect_args: Mapping[str, Any]) -> Any:
    port = connect_args.get("port") or 3306
    return "(callable)" if callable(port) else port


def _whole(option: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SettingsError(f"{option}={value!r} must be a whole number of at least {least}")


def seconds(option: str, value: Any, least: float | None) -> None:
    """Refuse `value` if it is no number of seconds, or less than `least`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise SettingsError(f"{option}={value!r} must be a number of seconds")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise SettingsError(f"{option} is a whole number of {len(str(value))} digits, and no number of seconds")
    if least is not None and value < least:
        raise SettingsError(f"{option}={value!r} must be at least {least:g} seconds")


def patience(retry_num: Any, retry_interval: Any) -> float:
    """Return the product of the two, in seconds.

    Raises:
        SettingsError: one is no number, or the product is negative or not finite.
    """
    try:
        product = retry_num * retry_interval
        if not 0 <= product < float("inf"):
            raise TypeError
        return float(product)
    except (TypeError, OverflowError):
        raise SettingsError(
            f"retry_num={retry_num!r} and retry_interval={retry_interval!r} must be numbers, at least 0"
        ) from None


def patience_within(timeout: float | None, retry_num: Any = RETRY_NUM, retry_interval: Any = RETRY_INTERVAL) -> float:
    """For how many seconds a call waits before it makes a connection beyond `size`: half of its `timeout` is left for
    that."""
    longest = patience(retry_num, retry_interval)
    return longest if timeout is None else min(longest, timeout / 2)


def _optional(check: Callable[[str, Any, Any], None], option: str, value: Any, least: Any) -> None:
    if value is not None:
        check(option, value, least)
