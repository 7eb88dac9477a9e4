"""`PoolMaker`: makes the pool of each endpoint of a cluster, with the options that all of them share.

Owns: which options the cluster itself sets. Never: connects to a host that was found (to one that
is listed, where `pre_create_num` asks for it).
"""

from __future__ import annotations

from typing import Any

from .._pool.observed import follow_refusals
from ..errors import SettingsError
from ..pool import ConnectionPool
from .hosts import Place
from .refusals import RefusalNews, Told

_OF_THE_CLUSTER = ("host", "port", "unix_socket", "role", "fail_fast", "track_commits")


class PoolMaker:
    """Called with a place, its index, and the function to be told of refused statements there.

    Args:
        options: those of `ConnectionPool`.

    Raises:
        SettingsError: one of the options is the cluster's.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        for refused in _OF_THE_CLUSTER:
            if refused in options:
                raise SettingsError(f"{refused}={options[refused]!r}: a cluster has hosts=, and says this to its pools")
        self._options = options | {"role": "ready", "fail_fast": True, "track_commits": True}

    def __call__(self, place: Place, index: int, told: Told) -> ConnectionPool:
        host, port, endpoint = place
        options = self._options if endpoint.listed else self._options | {"pre_create_num": 0}
        pool = ConnectionPool(host=host, port=port, **options)
        follow_refusals(pool, RefusalNews(index, told))
        return pool
