"""The database checks of an alias, as `manage.py check --database` runs them.

If the pool cannot be made, no connection can look at the server, and the reason is the only report.

Never: repeats the reports of the check of the settings.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from . import options
from ._mysqldb import validation

# What the checks of models are told of the server of an alias whose settings are unusable. Nothing can connect to it.
ANY_SERVER: dict[str, str | bool] = {
    "version": "8.4.0",
    "sql_mode": "STRICT_TRANS_TABLES",
    "default_storage_engine": "InnoDB",
    "sql_auto_is_null": False,
    "lower_case_table_names": False,
    "has_zoneinfo_database": True,
}


class DatabaseValidation(validation.DatabaseValidation):
    connection: Any

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        errors = pool_errors(self.connection)
        if not errors:
            return list(super().check(**kwargs))
        return [] if apps.is_installed("pymysqlpool_django") else errors  # its check of the settings reports them


def pool_errors(wrapper: Any) -> list[CheckMessage]:
    """Return why the alias of `wrapper` cannot connect, or have its pool: E001, E002. Asks no server."""
    wanted = options.wanted(wrapper)
    try:
        params = wrapper.get_connection_params()
        if not wanted:
            return []
        understood = options.read(wrapper.alias, wanted, bool(wrapper.settings_dict["CONN_HEALTH_CHECKS"]))
        options.check(wrapper.alias, understood, params)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="pymysqlpool.E001")]
    try:
        options.refuse_persistent(wrapper.alias, wrapper.settings_dict["CONN_MAX_AGE"])
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Remove CONN_MAX_AGE.", id="pymysqlpool.E002")]
    return []
