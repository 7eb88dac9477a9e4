"""The fields of a log record, for a handler that writes JSON or searches: `extra=fields(pool, "discard", reason=...)`.

`event` names what happened, `pool` is the pool's name as in the text, `pool_label` that of its metrics. The other
fields are numbers and words of the event; docs/observability.md lists them. Owns: the names of the fields. Never: holds
a value of a statement.
"""

from __future__ import annotations

from .._util.log import one_line
from ..settings import label_of
from .core import PoolCore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def label(core: PoolCore) -> str:
    """The pool's own `name`, else host:port/database. What no exporter or terminal takes is escaped."""
    return one_line(core._settings.name or label_of(core._connect_args))


def fields(core: PoolCore, event: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "pool": core.name, "pool_label": label(core), **more}
