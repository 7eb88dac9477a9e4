"""With "pymysqlpool_django" in INSTALLED_APPS: system checks and the command `poolstatus`. The backend needs it not."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class PoolConfig(AppConfig):
    name = "pymysqlpool_django"
    verbose_name = "Connection pool"

    def ready(self) -> None:
        from . import checks

        register(checks.check_options)
        register(checks.check_server, Tags.database)
