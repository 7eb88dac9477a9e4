"""`manage.py dbshell`: for an alias with several hosts, connects to a host of the alias's target.

Never: borrows from a pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import hosts
from ._mysqldb import client


class DatabaseClient(client.DatabaseClient):
    connection: Any

    def runshell(self, parameters: Iterable[str]) -> None:
        before = self.connection.settings_dict
        self.connection.settings_dict = hosts.placed_settings(self.connection)
        try:
            super().runshell(parameters)
        finally:
            self.connection.settings_dict = before
