"""`PrimaryReplicaRouter`: the ORM reads from a replica, or from the primary where a replica may lack the data.

    DATABASE_ROUTERS = ["pymysqlpool_django.routers.PrimaryReplicaRouter"]

It decides by Django's hints and by the writes of this unit of work. Never: parses a statement, routes a raw cursor
(`connections["replica"].cursor()` is the replica), or a query with `using()`.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

from . import writes


class PrimaryReplicaRouter:
    """Reads go to `replica`; to `primary` go writes, and reads inside `atomic()` or after a write in this request.

    Queries that lock rows (`select_for_update()`) and `get_or_create()` count as writes, as Django has it. Subclass it
    for other names, or for models that are always read from the primary::

        class Router(PrimaryReplicaRouter):
            def db_for_read(self, model, **hints):
                return "default" if model._meta.app_label == "sessions" else super().db_for_read(model, **hints)

    Attributes:
        primary: the alias in DATABASES that takes the writes.
        replica: the alias that is read from.
    """

    primary: str = "default"
    replica: str = "replica"

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Return the alias to read from; None if the object at hand belongs to a third database."""
        if not self._is_ours(hints):
            return None
        return self.primary if self._is_in_transaction() or writes.has_written(self.primary) else self.replica

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Return the primary; None if the object at hand belongs to a third database."""
        if not self._is_ours(hints):
            return None
        writes.note_write(self.primary)
        return self.primary

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        """Allow relations between objects of the two: they are one database."""
        both = {one._state.db, other._state.db}
        return True if both <= {self.primary, self.replica} else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Forbid migrations on the replica, which gets them from the primary."""
        return False if db == self.replica else None

    def _is_ours(self, hints: dict[str, Any]) -> bool:
        state = getattr(hints.get("instance"), "_state", None)
        return state is None or state.db in (None, self.primary, self.replica)

    def _is_in_transaction(self) -> bool:
        wrapper = connections[self.primary]
        if wrapper.in_atomic_block:
            return True
        return wrapper.connection is not None and not wrapper.autocommit
