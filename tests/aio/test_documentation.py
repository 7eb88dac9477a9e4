"""What docs/async.md shows does what it says."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool.aio import AsyncConnectionPool
from tests.middleware.asgi.support import Exchange

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parent.parent.parent / "docs" / "async.md").read_text(), re.S
)


def test_no_block_is_without_a_test() -> None:
    assert len(BLOCKS) == 2


@pytest.fixture
def items(admin: Any) -> Any:
    with admin.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE item (id INT PRIMARY KEY, name VARCHAR(9), stock INT) ENGINE=InnoDB")
        cursor.execute("INSERT INTO item VALUES (7, 'net', 3)")
    yield
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE item")


@pytest.mark.usefixtures("items")
def test_the_pool_as_it_is_shown(connect_args: dict[str, Any], admin: Any) -> None:
    shown = BLOCKS[0].replace('host="127.0.0.1", user="me", password="secret"', "**connect_args")
    assert "**connect_args" in shown
    names: dict[str, Any] = {"connect_args": connect_args}
    exec("async def main():\n" + textwrap.indent(shown, "    "), names)
    asyncio.run(names["main"]())
    with admin.cursor() as cursor:
        cursor.execute("SELECT stock FROM item WHERE id = 7")
        assert cursor.fetchone() == (2,)


@pytest.mark.usefixtures("items")
def test_the_middleware_as_it_is_shown(connect_args: dict[str, Any]) -> None:
    pytest.importorskip("fastapi")

    async def main() -> None:
        async with AsyncConnectionPool(**connect_args, size=1, maxsize=1, timeout=10) as pool:
            names: dict[str, Any] = {"pool": pool}
            exec(BLOCKS[1], names)
            for path, body in (("/items", b'["net"]'), ("/count", b"1"), ("/names", b"null")):
                done = await Exchange(names["app"], path).run()
                assert (done.status, done.body) == (200, body), path
            assert (pool.stats().borrowed, pool.stats().in_use) == (3, 0)

    asyncio.run(main())
