"""The package's one logger: `pymysqlpool.logger`. No handler, no level: those are the application's."""

from __future__ import annotations

import logging

logger = logging.getLogger("pymysqlpool")

# Level -> whether anybody listens, as far as the logger has found out; it forgets that when a level is changed. To look
# here takes a quarter of the time of asking. Whoever finds nothing asks: `is_heard.get(DEBUG, True)` may err that way.
is_heard: dict[int, bool] = getattr(logger, "_cache", {})
