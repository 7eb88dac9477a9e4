"""Django serves requests from a pool without `read_timeout`: one warning, at the first request."""

from __future__ import annotations

import pytest
from django.core.signals import request_started

from .conftest import Connect


@pytest.mark.parametrize(("options", "number"), [({}, 1), ({"read_timeout": 30}, 0)])
def test_the_first_request_warns_once_of_a_pool_without_read_timeout(
    connect: Connect, caplog: pytest.LogCaptureFixture, options: dict[str, int], number: int
) -> None:
    def warnings() -> list[str]:
        return [text for record in caplog.records if "no read_timeout" in (text := record.getMessage())]

    wrapper = connect(True, **options)
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert not warnings(), "a command of manage.py serves no requests"
    for _ in range(2):
        request_started.send(None, environ={})
    assert len([text for text in warnings() if f"pool({wrapper.pool.name})" in text]) == number
