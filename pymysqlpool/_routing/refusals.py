"""`RefusalNews`: how a cluster learns of the first refused write.

Without it, each caller that comes before the next question about the role makes a session with the old primary first.
It is no `on_discard`, with which the returns of an event loop's connections would need a thread.

Never: keeps a cluster alive.
"""

from __future__ import annotations

import weakref
from typing import Protocol


class Told(Protocol):
    def refused_work(self, index: int) -> None: ...


class RefusalNews:
    """Called at each refusal in the pool of one endpoint.

    Args:
        index: of the endpoint.
        told: the cluster.
    """

    def __init__(self, index: int, told: Told) -> None:
        self._index = index
        self._told = weakref.ref(told)

    def __call__(self) -> None:
        cluster = self._told()
        if cluster is not None:
            cluster.refused_work(self._index)
