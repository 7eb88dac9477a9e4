"""What a server's answers say of its role, and that a real server gives such answers."""

from __future__ import annotations

from typing import Any

import pytest

from pymysqlpool._driver.role import QUESTIONS, RoleWanted, read

STANDALONE = {"read_only": "OFF", "innodb_read_only": "OFF", "wsrep_on": "OFF"}
NODE = {**STANDALONE, "wsrep_on": "ON", "wsrep_ready": "ON", "wsrep_local_state": "4"}

SERVERS: list[tuple[str, dict[str, str], set[RoleWanted]]] = [
    ("primary", STANDALONE, {"any", "ready", "primary"}),
    ("MySQL, knows no wsrep_on", {"read_only": "OFF", "super_read_only": "OFF"}, {"any", "ready", "primary"}),
    ("replica", {**STANDALONE, "read_only": "ON"}, {"any", "ready", "replica"}),
    ("MariaDB 12's other kinds of read-only", {**STANDALONE, "read_only": "NO_LOCK"}, {"any", "ready", "replica"}),
    ("Aurora reader", {"read_only": "OFF", "innodb_read_only": "ON"}, {"any", "ready", "replica"}),
    ("Galera node", NODE, {"any", "ready", "primary"}),
    ("Galera node without quorum", {**NODE, "wsrep_ready": "OFF"}, {"any"}),
    ("Galera donor", {**NODE, "wsrep_local_state": "2"}, {"any"}),
    ("Galera node, read-only", {**NODE, "read_only": "ON"}, {"any", "ready", "replica"}),
    ("built with Galera, not used", {**STANDALONE, "wsrep_ready": "OFF"}, {"any", "ready", "primary"}),
]
ALL: tuple[RoleWanted, ...] = ("any", "ready", "primary", "replica")


@pytest.mark.parametrize(("_name", "values", "fits"), SERVERS, ids=[name for name, _, _ in SERVERS])
def test_a_server_fits_the_roles_that_its_variables_say(
    _name: str, values: dict[str, str], fits: set[RoleWanted]
) -> None:
    role = read([list(values.items())])
    assert {wanted for wanted in ALL if role.fits(wanted)} == fits, role


def test_a_real_server_answers_the_questions_and_is_a_primary_until_it_is_read_only(admin: Any) -> None:
    def asked() -> Any:
        results = []
        for question in QUESTIONS:
            with admin.cursor() as cursor:
                cursor.execute(question)
                results.append(cursor.fetchall())
        return read(results)

    assert asked().fits("primary")
    with admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
    try:
        assert asked().fits("replica")
        assert "read_only=ON" in asked().said
    finally:
        with admin.cursor() as cursor:
            cursor.execute("SET GLOBAL read_only = 0")
