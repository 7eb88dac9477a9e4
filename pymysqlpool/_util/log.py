"""The package's one logger: `pymysqlpool.logger`. No handler, no level: those are the application's."""

from __future__ import annotations

import logging

logger = logging.getLogger("pymysqlpool")
