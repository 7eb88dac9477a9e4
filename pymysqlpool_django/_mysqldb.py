"""Django's own MySQL backend, importable with or without mysqlclient. Everything else here gets it from this module.

That backend imports `MySQLdb`. Where mysqlclient is installed it gets the real one, and nothing is replaced: another
alias may use it. Only where there is none does PyMySQL stand in for it.
"""

from __future__ import annotations

import sys

import pymysql

try:
    import MySQLdb  # type: ignore[import-untyped]  # noqa: F401 - only whether it can be imported matters
except ImportError:
    pymysql.install_as_MySQLdb()
    # Its modules too: else `import MySQLdb.converters` would load PyMySQL's a second time, and leave `pymysql.err` with
    # error classes that are not the ones PyMySQL raises.
    for name, module in list(sys.modules.items()):
        if name.startswith("pymysql."):
            sys.modules.setdefault(name.replace("pymysql", "MySQLdb", 1), module)

from django.db.backends.mysql import base, client, creation, features, schema, validation

__all__ = ["base", "client", "creation", "features", "schema", "validation"]
