"""The options in `OPTIONS["pool"]`: their names, synonyms and defaults under Django.

Never: corrects a value. An unknown name or a wrong value raises ImproperlyConfigured with the option, the value and the
allowed names.

The names of `pymysqlpool.settings.Settings`, and `reuse_policy`, have the same meaning here, also `max_waiting=0` (no
request waits; in psycopg's pool it means no limit). Different under Django:

    size, min_size      default 4, or max_size where that is less
    maxsize, max_size   default 18, or size where that is more; reached without waiting first
    timeout             default 30 seconds
    name                default the alias
    pre_ping            default CONN_HEALTH_CHECKS
    hosts               several hosts instead of HOST, with the options of the cluster beside them: a
                        `pymysqlpool.cluster.Cluster`, one for all aliases that differ in `target` and `release` only
    target              with hosts: "primary" (default), "replica", "prefer-replica", "prefer-primary" or "any"
    release             "request": given back when Django closes the connection, at the end of a request, and at the
                        end of each piece of work in an executor, which ASGI has its threads from (default);
                        "transaction": as soon as neither a transaction nor an open cursor holds it

Choose "transaction" where threads borrow that neither end nor close their connections, and for one case under ASGI: a
middleware that is not asynchronous, has made a query and calls an asynchronous view holds a connection while it waits
for that view; before Django 6.2 the view's error page is rendered in another thread and may need a second one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS

from pymysqlpool import SettingsError
from pymysqlpool.cluster import Cluster
from pymysqlpool.secrets import Secret, conceal
from pymysqlpool.settings import OPTION_NAMES, Settings, split

# Django's names for PostgreSQL's pool that differ from ours. `timeout`, `max_waiting` and `max_idle` are the same.
SYNONYMS = {"min_size": "size", "max_size": "maxsize", "max_lifetime": "con_lifetime"}
MYSQLCLIENTS = frozenset({"ssl_mode", "multi_statements", "auth_plugin"})  # not PyMySQL's
OWN_NAMES = frozenset({"release", "reuse_policy", "target"})
OF_A_CLUSTER = frozenset({"hosts", "topology", "balance", "zone", "failback_after", "check_interval", "max_lag"})
ALLOWED = OPTION_NAMES | SYNONYMS.keys() | OWN_NAMES | OF_A_CLUSTER

# One process of a site seldom needs more; eight such processes fit into a server's usual 151 connections.
SIZE = 4
MAXSIZE = 18
LIFETIME = Settings().con_lifetime  # seconds
TIMEOUT = 30.0  # seconds, as psycopg's pool; the core's 0.3 would fail requests that merely have to queue

RELEASE = ("request", "transaction")


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """`OPTIONS["pool"]`, checked and with its defaults.

    Attributes:
        core: arguments for `pymysqlpool.ConnectionPool`, of each host where there are several.
        cluster: further arguments for `pymysqlpool.cluster.Cluster`; None for one host.
        target: which of a cluster's servers the alias uses.
        release_after_transaction: give a connection back after each query outside a transaction, not at the end of the
            request.
    """

    core: Mapping[str, Any]
    release_after_transaction: bool
    cluster: Mapping[str, Any] | None = None
    target: Any = "primary"

    def make_cluster(self, connect_args: Mapping[str, Any], **core: Any) -> Cluster:
        """Return the cluster of these options; it connects only if `pre_create_num` is set.

        Raises:
            SettingsError: an option has a wrong value.
        """
        assert self.cluster is not None
        cluster = Cluster(**self.cluster, **{**connect_args, **self.core, **core})
        cluster.target(self.target)
        return cluster


def wanted(wrapper: Any) -> Any:
    """Return `OPTIONS["pool"]` of a DatabaseWrapper, with what may be a password concealed; false for no pool."""
    given = wrapper.settings_dict["OPTIONS"].get("pool")
    if isinstance(given, Mapping):
        return conceal(given)
    return given if not given or given is True else Secret(given)  # a URL, perhaps; it will be refused


def read(alias: str, given: Any, health_checks: bool) -> PoolOptions:
    """Return the options of `given`, the value of `OPTIONS["pool"]`: True, or a dict.

    Raises:
        ImproperlyConfigured: it is something else, or has an unknown name, or two names for one thing.
    """
    if given is True:
        given = {}
    if not isinstance(given, Mapping):
        _refuse(alias, "must be True or a dict of options")
    unknown = sorted(str(name) for name in given if name not in ALLOWED)
    if unknown:
        _refuse(alias, f"has unknown options: {', '.join(unknown)}. Allowed are {', '.join(sorted(ALLOWED))}")
    core: dict[str, Any] = {}
    for name, value in given.items():
        meant = SYNONYMS.get(str(name), str(name))
        if meant in core:
            _refuse(alias, f"has two names for one option: {meant} and {_synonym_of(meant)}; give one of them")
        core[meant] = value
    release = core.pop("release", RELEASE[0])
    if release not in RELEASE:
        _refuse(alias, f"has release={release!r}; it must be {' or '.join(map(repr, RELEASE))}")
    cluster = {name: core.pop(name) for name in OF_A_CLUSTER if name in core}
    target = core.pop("target", None)
    if "hosts" not in cluster and (cluster or target is not None):
        _refuse(alias, f"has {', '.join(cluster) or 'target'}, which needs hosts")
    _add_sizes(core)
    core.setdefault("timeout", TIMEOUT)
    core.setdefault("pre_ping", health_checks)
    is_released = release == "transaction"
    if "hosts" not in cluster:
        core.setdefault("name", alias)
        return PoolOptions(core, is_released)
    cluster["name"] = core.pop("name", None)
    return PoolOptions(core, is_released, cluster, target or "primary")


def arguments(wrapper: Any, read_settings: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the arguments for PyMySQL, which `read_settings` makes of the settings of a DatabaseWrapper.

    Raises:
        ImproperlyConfigured: it cannot, or, where there is no pool, whose making checks them: PyMySQL would not take
            them. The message names the setting, and no password.
    """
    alias = wrapper.alias
    try:
        params = read_settings()
    except (AttributeError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"DATABASES[{alias!r}]{_unreadable(wrapper.settings_dict, error)}.") from error
    has_pool = params.pop("pool", None)
    if not has_pool or alias == NO_DB_ALIAS:
        _refuse_misplaced(alias, params)
        _check_arguments(alias, params)
    if has_pool:  # Django sets it after connecting; here it is so from the start, and costs no round trip
        params["autocommit"] = bool(wrapper.settings_dict["AUTOCOMMIT"])
    return params


def _unreadable(settings: Mapping[str, Any], error: Exception) -> str:
    """Say from which setting the `error` came."""
    if not isinstance(settings["HOST"], str):
        return "['HOST'] must be text; several hosts are OPTIONS['pool']['hosts']"
    if settings["PORT"] and not str(settings["PORT"]).isdecimal():
        return "['PORT'] must be a number"
    if not isinstance(settings["OPTIONS"].get("isolation_level"), str | None):
        return "['OPTIONS']['isolation_level'] must be text or None"
    return f" cannot be used for a connection: {error!r}"


def check(alias: str, options: PoolOptions, connect_args: Mapping[str, Any]) -> None:
    """Check that the core would make a pool of these options, without making one.

    Raises:
        ImproperlyConfigured: it would not. The message names the place: `pool`, or the options beside it.
    """
    _refuse_misplaced(alias, connect_args)
    if options.cluster is not None and {"host", "port", "unix_socket"} & set(connect_args):
        _refuse(alias, "has hosts, and HOST or PORT stands beside it: leave out the one or the other")
    _check_arguments(alias, connect_args)
    core = {name: value for name, value in options.core.items() if name not in OWN_NAMES}
    try:
        split({**connect_args, **core})
        if options.cluster is not None:
            options.make_cluster(connect_args, pre_create_num=0)
    except SettingsError as error:
        _refuse(alias, f"cannot be used: {error}", error)


def _refuse_misplaced(alias: str, connect_args: Mapping[str, Any]) -> None:
    misplaced = sorted((set(connect_args) & ALLOWED) - {"autocommit"})
    if misplaced:
        raise ImproperlyConfigured(
            f"DATABASES[{alias!r}]['OPTIONS'] has {', '.join(misplaced)}: a pool's option belongs into OPTIONS['pool']."
        )


def _check_arguments(alias: str, connect_args: Mapping[str, Any]) -> None:
    try:
        split(connect_args)
    except SettingsError as error:
        hint = ""
        if any(name in MYSQLCLIENTS for name in connect_args):
            hint = " OPTIONS are those of pymysql.connect(), not mysqlclient's: ssl={'ca': ...} instead of ssl_mode."
        what = str(error).partition("; the pool's options are")[0]
        raise ImproperlyConfigured(f"DATABASES[{alias!r}] cannot be used for a connection: {what}.{hint}") from error


def refuse_persistent(alias: str, max_age: float | None) -> None:
    """Refuse CONN_MAX_AGE: a pooled connection is given back at the end of a request.

    Raises:
        ImproperlyConfigured: `max_age`, CONN_MAX_AGE in seconds, is not 0.
    """
    if max_age != 0:
        raise ImproperlyConfigured(
            f"DATABASES[{alias!r}]: Pooling doesn't support persistent connections. CONN_MAX_AGE is {max_age!r} and "
            "must be 0 with OPTIONS['pool'], whose max_lifetime says how long a connection lives."
        )


def _add_sizes(core: dict[str, Any]) -> None:
    """Adapt the default of one size to the other one, if only that was given."""
    if "maxsize" not in core:
        core["maxsize"] = max(core["size"], MAXSIZE) if isinstance(core.get("size"), int) else MAXSIZE
    if "size" not in core:
        core["size"] = max(1, min(core["maxsize"], SIZE)) if isinstance(core["maxsize"], int) else SIZE


def _synonym_of(name: str) -> str:
    return next(synonym for synonym, meant in SYNONYMS.items() if meant == name)


def _refuse(alias: str, what: str, cause: Exception | None = None) -> NoReturn:
    raise ImproperlyConfigured(f"DATABASES[{alias!r}]['OPTIONS']['pool'] {what}.") from cause
