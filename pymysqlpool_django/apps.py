"""The Django application: it registers the system checks and the command `poolstatus`.

The backend works without it. Never: opens a connection.
"""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class PoolConfig(AppConfig):
    name = "pymysqlpool_django"
    verbose_name: str = "Connection pool"

    def ready(self) -> None:
        from . import checks

        register(checks.check_options)
        register(checks.check_server, Tags.database)
