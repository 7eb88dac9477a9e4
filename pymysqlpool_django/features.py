"""Django's own features, and the two tests of Django's suite that no pool can pass, as with PostgreSQL's pool.

Never: claims a feature that the installed Django does not.
"""

from __future__ import annotations

from typing import Any

from django.utils.functional import cached_property

from ._mysqldb import features

_IMPLICIT_CHECKS = {
    "backends.base.test_base.ConnectionHealthChecksTests.test_health_checks_enabled",
    "backends.base.test_base.ConnectionHealthChecksTests.test_set_autocommit_health_checks_enabled",
}


class DatabaseFeatures(features.DatabaseFeatures):
    @cached_property
    def django_test_skips(self) -> dict[str, Any]:  # type: ignore[override]
        skips = dict(super().django_test_skips)
        if self.connection.settings_dict["OPTIONS"].get("pool"):
            skips["Pool does implicit health checks"] = _IMPLICIT_CHECKS
        return skips
