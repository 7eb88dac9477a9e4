"""`DiscardNews`: the `on_discard` of an endpoint's pool, by which a cluster learns of the first refused write.

Without it, each caller that comes before the next question about the role makes a session with the old primary first.

Never: keeps a cluster alive, changes what the application's own hook is told.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from .._util import functions
from ..reuse import Reason


class Told(Protocol):
    def refused_work(self, index: int) -> None: ...


class DiscardNews:
    """Called with the reason of each discard in the pool of one endpoint.

    Args:
        index: of the endpoint.
        told: the cluster.
        hook: the application's own `on_discard`.

    Raises:
        SettingsError: the hook cannot be called with a reason.
    """

    def __init__(self, index: int, told: Told, hook: Any = None) -> None:
        if hook is not None:
            functions.check("on_discard", hook, "reason")
        self._index = index
        self._hook = hook
        self._told = weakref.ref(told)

    def __call__(self, reason: str) -> None:
        cluster = self._told()
        if cluster is not None and reason == Reason.READ_ONLY.value:
            cluster.refused_work(self._index)
        if self._hook is not None:
            self._hook(reason)
