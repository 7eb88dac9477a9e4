"""Django's own MySQL backend, importable with or without mysqlclient. The other modules import it from here.

That backend imports `MySQLdb`. If mysqlclient is installed, it is used and not replaced, since another alias may need
it. If not, PyMySQL takes its place.

Never: replaces an installed mysqlclient.
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
