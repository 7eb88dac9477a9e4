"""docs/wsgi.md does what it says."""

from __future__ import annotations

from typing import Any

from pymysqlpool.devserver import DevServer
from tests.documentation import Page, prepare_shop


def test_the_code_on_the_page_runs(server: DevServer, admin: Any) -> None:
    prepare_shop(admin)
    Page("docs/wsgi.md").run(server)
