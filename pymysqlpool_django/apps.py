"""System checks and the command `poolstatus`. The backend needs neither, nor to be in INSTALLED_APPS."""

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
