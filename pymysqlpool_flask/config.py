"""The extension's configuration: `app.config` is read once, at `init_app`, and accepted as written or refused.

    PYMYSQLPOOL        the options of the application's database: a dict
    PYMYSQLPOOL_BINDS  further databases: a dict of such dicts by name

Keys may be written in upper case, as `app.config.from_prefixed_env()` makes them from FLASK_PYMYSQLPOOL__HOST. A dict
holds the options of `ConnectionPool`, the arguments of `pymysql.connect()`, and `g_name`; PYMYSQLPOOL those of
`AppOptions` besides. The default of `timeout` is 10 seconds: a request must not wait for ever.

Never: connects, changes the application's config, corrects a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pymysqlpool import SettingsError, settings
from pymysqlpool.carried_commits import CarriedCommits
from pymysqlpool.request_scope import CommitVeto, TransactionMode
from pymysqlpool.secrets import Secret, conceal

KEY = "PYMYSQLPOOL"
BINDS_KEY = "PYMYSQLPOOL_BINDS"
DEFAULT_TIMEOUT = 10.0  # seconds

# Text options: FLASK_PYMYSQLPOOL__PASSWORD=1234 arrives as the number 1234, and 1e5 as 100000.0.
_TEXT = ("host", "user", "password", "passwd", "database", "db", "unix_socket", "charset", "name")


class ConfigError(SettingsError):
    """`app.config` holds something that the extension cannot accept; the message names the key."""


@dataclass(frozen=True, slots=True)
class AppOptions:
    """The options of the extension itself, beside those of the pools.

    Attributes:
        transaction: None: nothing is committed for you; "request": each request is a transaction, committed before
            the head of the response goes out if its status is below 400, else rolled back.
        transaction_on_get: whether that is so for GET, HEAD, OPTIONS and TRACE too; else what they write is rolled
            back, unless they commit it themselves.
        commit_veto: called with status, headers and exception; true rolls back. Replaces the rule of the status.
        retry_after: seconds, in the `Retry-After` header of a 503 when no connection could be had.
        server_timing: add a `Server-Timing` header with what the request waited for and held connections.
        slow_wait: log requests that waited so many seconds for a connection; None: none.
        long_hold: log requests that held one for so many seconds; None: none.
        deadline: seconds after its start at which a request stops waiting for connections, however many it asks for;
            None: the pool's `timeout` bounds each wait, and nothing their sum.
        share_nested_contexts: whether an application context or a `test_request_context` inside a request uses the
            request's connections, which stay the request's to give back; else each has connections of its own.
        carry_commits: with `hosts`: what a visitor has written is read by the visitor's next requests, too, from
            `g.replica`. True: by a cookie, signed by the application's `secret_key`, with the flags of its session
            cookie; or a `CommitCookie`, or a `CommitHeader`. None or False: only by the same request.
    """

    transaction: TransactionMode = None
    transaction_on_get: bool = True
    commit_veto: CommitVeto | None = None
    retry_after: int = 1
    server_timing: bool = False
    slow_wait: float | None = None
    long_hold: float | None = None
    deadline: float | None = None
    share_nested_contexts: bool = False
    carry_commits: CarriedCommits | bool | None = None

    def __post_init__(self) -> None:
        if self.transaction not in (None, "request"):
            raise ConfigError(f"transaction={self.transaction!r} must be None or 'request'")
        if self.commit_veto is not None and not callable(self.commit_veto):
            raise ConfigError(f"commit_veto={self.commit_veto!r} must be callable")
        if type(self.retry_after) is not int or self.retry_after < 1:
            raise ConfigError(f"retry_after={self.retry_after!r} must be a whole number of seconds, at least 1")
        for flag in ("transaction_on_get", "server_timing", "share_nested_contexts"):
            if not isinstance(getattr(self, flag), bool):
                raise ConfigError(f"{flag}={getattr(self, flag)!r} must be True or False")
        if self.carry_commits is not None and not isinstance(self.carry_commits, bool | CarriedCommits):
            kind = type(self.carry_commits).__name__  # not its repr: it may be the key
            raise ConfigError(f"carry_commits must be True, a CommitCookie or a CommitHeader, not {kind}")
        for option in ("slow_wait", "long_hold", "deadline"):
            value = getattr(self, option)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
                raise ConfigError(f"{option}={value!r} must be a number of seconds, or None")


REPLICA = "replica"  # the bind, and the name on `g`, of the replicas
_OF_A_CLUSTER = ("hosts", "topology", "balance", "zone", "failback_after", "check_interval", "max_lag")


@dataclass(frozen=True, slots=True)
class BindOptions:
    """One database: the arguments of its `ConnectionPool`, and its name on `g`; None for no name there.

    Attributes:
        cluster: the arguments of its `Cluster` beside those of the pools, where it has several hosts.
        replica_of: it is the replicas of that other database, which has several hosts.
    """

    g_name: str | None
    pool: dict[str, Any] = field(repr=False)  # it holds the password
    cluster: dict[str, Any] | None = None
    replica_of: str | None = None


def read(config: Mapping[str, Any], default_g_name: str | None) -> tuple[AppOptions, dict[str | None, BindOptions]]:
    """Return the application's options, and those of each database by its bind name (None: PYMYSQLPOOL itself).

    Raises:
        ConfigError: a key is unknown or its value out of bounds, or two databases share a name on `g`.
    """
    config = _concealed(config)
    if config.get(KEY) is None and config.get(BINDS_KEY) is None:
        raise ConfigError(f"app.config has neither {KEY} nor {BINDS_KEY}; set one before init_app()")
    options = AppOptions()
    binds: dict[str | None, BindOptions] = {}
    if config.get(KEY) is not None:
        given = _lower(KEY, config[KEY])
        own = {option.name: given.pop(option.name) for option in fields(AppOptions) if option.name in given}
        try:
            options = AppOptions(**own)
        except ConfigError as error:
            raise ConfigError(f"app.config[{KEY!r}]: {error}") from None
        binds[None] = _bind(KEY, given, default_g_name)
    if config.get(BINDS_KEY) is not None:
        for name, bind in _mapping(BINDS_KEY, config[BINDS_KEY]).items():
            key = f"{BINDS_KEY}[{name}]"
            binds[name] = _bind(key, _lower(key, bind), name)
    if None in binds and binds[None].cluster is not None:
        if REPLICA in binds:
            raise ConfigError(f"app.config[{BINDS_KEY!r}]: {REPLICA!r} is the name of the replicas of {KEY}'s hosts")
        binds[REPLICA] = replace(binds[None], g_name=REPLICA, replica_of=KEY)
    elif options.carry_commits:
        raise ConfigError(f"app.config[{KEY!r}]: carry_commits needs hosts: one server has all that was committed")
    names = [bind.g_name for bind in binds.values() if bind.g_name is not None]
    if len(names) != len(set(names)):
        raise ConfigError(f"two databases have the same name on g, of {', '.join(names)}; tell them apart by 'g_name'")
    return options, binds


def _concealed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return our keys of `config` with concealed passwords, so that no traceback shows one."""
    binds = config.get(BINDS_KEY)
    if isinstance(binds, Mapping):
        binds = {name: _conceal(bind) for name, bind in binds.items()}
    return {KEY: _conceal(config.get(KEY)), BINDS_KEY: binds if isinstance(binds, dict) else _conceal(binds)}


def _conceal(options: Any) -> Any:
    if isinstance(options, Mapping):
        return conceal(options)
    return None if options is None else Secret(options)  # a URL, perhaps; it will be refused


def read_bind(name: str, options: Any) -> BindOptions:
    """Return the options of a database that is added at run time; without `g_name` it has no name on `g`.

    Raises:
        ConfigError: see `read`.
    """
    key = f"{BINDS_KEY}[{name}]"
    return _bind(key, _lower(key, _conceal(options)), None)


def _bind(key: str, given: dict[str, Any], default_g_name: str | None) -> BindOptions:
    g_name = given.pop("g_name", default_g_name) or None
    if g_name is not None and (not isinstance(g_name, str) or not g_name.isidentifier()):
        raise ConfigError(f"app.config[{key!r}]: g_name={g_name!r} must be a name")
    for option in _TEXT:
        value = given.get(option)
        if isinstance(value, bool | int | float):
            raise ConfigError(
                f"app.config[{key!r}]: {option} must be text and is a number or a truth value; in an environment "
                "variable write it with quotes inside, as in '\"1234\"'"
            )
    if isinstance(given.get("autocommit"), str):
        raise ConfigError(
            f"app.config[{key!r}]: autocommit={given['autocommit']!r} is text, and any text counts as true; write True "
            "or False, and in an environment variable true or false"
        )
    given.setdefault("timeout", DEFAULT_TIMEOUT)
    cluster = {option: given.pop(option) for option in _OF_A_CLUSTER if option in given} if "hosts" in given else None
    try:
        settings.split(given)
    except SettingsError as error:
        raise ConfigError(f"app.config[{key!r}]: {error}") from None
    return BindOptions(g_name, given, cluster)


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        kind = type(value.reveal() if isinstance(value, Secret) else value).__name__
        raise ConfigError(f"app.config[{key!r}] must be a dict with names as keys, not {kind}")
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(f"app.config[{key!r}] has the key {name!r}, which must be a name, as text")
    return value


def _lower(key: str, value: Any) -> dict[str, Any]:
    lowered: dict[str, Any] = {}
    for name, its in _mapping(key, value).items():
        if name.lower() in lowered:
            raise ConfigError(f"app.config[{key!r}] has {name.lower()!r} twice, in upper and in lower case")
        lowered[name.lower()] = its
    return lowered
