"""Test databases: no pool holds a connection to a database that is created, cloned or destroyed.

Never: changes how Django creates them.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any, ClassVar

from . import hosts
from ._mysqldb import creation


class DatabaseCreation(creation.DatabaseCreation):
    connection: Any  # the stubs know no close_pool()

    # Django's own tests use it, from 6.1 on.
    destroy_test_db_connection_close_method: ClassVar[str] = "close_pool"

    def setup_worker_connection(self, _worker_id: int) -> None:
        super().setup_worker_connection(_worker_id)
        # As Django's SQLite does: a worker that was not forked knows nothing of the tests that its own suite skips.
        if os.environ.get("RUNNING_DJANGOS_TEST_SUITE") == "true" and multiprocessing.get_start_method() != "fork":
            self.mark_expected_failures_and_skips()

    def set_as_test_mirror(self, primary_settings_dict: dict[str, Any]) -> None:
        """With TEST MIRROR, use the other alias's test database and target: a replica might lack the data."""
        super().set_as_test_mirror(primary_settings_dict)
        settings, pool = self.connection.settings_dict, primary_settings_dict["OPTIONS"].get("pool")
        if isinstance(pool, dict) and "hosts" in pool:
            settings["OPTIONS"] = {**settings["OPTIONS"], "pool": pool}

    def _clone_db(self, source_database_name: str, target_database_name: str) -> None:
        before = self.connection.settings_dict
        self.connection.settings_dict = hosts.placed_settings(self.connection)  # for mysqldump
        try:
            super()._clone_db(source_database_name, target_database_name)  # type: ignore[misc]  # not in the stubs
        finally:
            self.connection.settings_dict = before

    def _create_test_db(self, verbosity: int, autoclobber: bool, keepdb: bool = False) -> Any:
        self.connection.close_pool()
        return super()._create_test_db(verbosity, autoclobber, keepdb)  # type: ignore[misc]  # not in the stubs

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:
        self.connection.close_pool()
        super()._clone_test_db(suffix, verbosity, keepdb)  # type: ignore[misc]

    def _destroy_test_db(self, test_database_name: str, verbosity: int) -> None:
        self.connection.close_pool()
        super()._destroy_test_db(test_database_name, verbosity)  # type: ignore[misc]
