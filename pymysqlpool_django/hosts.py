"""One host of an alias with several, for tools without a pool: `dbshell`, mysqldump, the creation of test databases.

A temporary cluster asks the servers at each call: these commands are rare, and no connection stays open. Never: decides
which server takes writes; the cluster does.
"""

from __future__ import annotations

from typing import Any, cast

from . import options

_PLACE = ("host", "port")


def placed(wrapper: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return `params`, arguments of a connection without a pool, with the host that takes writes if there are several.

    Raises:
        pymysql.OperationalError: no server takes writes.
    """
    understood = _of(wrapper)
    if understood is None:
        return params
    return {**params, **_ask(understood, params, "primary")}


def placed_settings(wrapper: Any) -> dict[str, Any]:
    """Return the settings of an alias, with HOST and PORT of one server of its target.

    Raises:
        pymysql.OperationalError: there is none.
    """
    understood = _of(wrapper)
    if understood is None:
        return cast("dict[str, Any]", wrapper.settings_dict)
    place = _ask(understood, wrapper.get_connection_params(), understood.target)
    return {**wrapper.settings_dict, "HOST": place["host"], "PORT": place["port"]}


def _of(wrapper: Any) -> options.PoolOptions | None:
    wanted = options.wanted(wrapper)
    if not isinstance(wanted, dict) or "hosts" not in wanted:
        return None
    return options.read(wrapper.alias, wanted, health_checks=False)


def _ask(understood: options.PoolOptions, params: dict[str, Any], target: Any) -> dict[str, Any]:
    with (
        understood.make_cluster(params, size=1, maxsize=1, pre_create_num=0) as cluster,
        cluster.target(target).get_connection() as lease,
    ):
        return {name: getattr(lease, name) for name in _PLACE}
