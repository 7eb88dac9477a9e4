"""User text cannot forge a line of the log."""

from __future__ import annotations

import logging
from typing import Any

import pymysql
import pytest

from pymysqlpool import PoolTimeout, logger
from pymysqlpool._util.log import one_line
from pymysqlpool.refusals import RefusalLog
from pymysqlpool.request_scope import RequestScope
from tests.conftest import MakePool

FORGED = "/shelf\nCRITICAL root admin logged in\r\x1b[31m\x00\x85\u2028\u202e"


@pytest.mark.parametrize("argument", [FORGED, pymysql.err.IntegrityError(1062, FORGED), RuntimeError(FORGED)])
def test_no_argument_ends_a_line(caplog: pytest.LogCaptureFixture, argument: Any) -> None:
    with caplog.at_level(logging.WARNING):
        logger.warning("%s held a connection for %.1f s", argument, 1.5)
    assert len(caplog.messages[0].splitlines()) == 1
    assert caplog.messages[0].endswith("held a connection for 1.5 s")
    assert not set(caplog.messages[0]) & set(FORGED) - set("/shelf CRITICAL root admin logged in [31m")


def test_ordinary_text_is_written_as_it_is() -> None:
    for text in ("GET /übersicht/日本?q=a%0ab", "C:\\new\\table", "it's `x` \u200d👩\u200d🚀", ""):
        assert one_line(text) == text
    assert one_line("a\nb\x1b[0m\u2028") == r"a\nb\x1b[0m\u2028"


def test_the_name_of_a_request_is_one_line_in_errors_too() -> None:
    scope = RequestScope(label=FORGED)
    assert scope.label == one_line(FORGED)
    scope.label = "GET " + FORGED
    assert scope.label == "GET " + one_line(FORGED)


def test_a_refusal_is_one_line_in_a_logger_of_the_applications_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        RefusalLog().note(FORGED, PoolTimeout("busy", pool="p"), log=logging.getLogger("application"))
    assert len(caplog.messages[0].splitlines()) == 1


def test_the_holders_of_connections_keep_their_lines(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    with pytest.raises(PoolTimeout) as raised:
        pool.get_connection(timeout=0.01)
    logger.warning("%s", raised.value)
    assert "\n  held for" in caplog.messages[-1]
    held.close()
