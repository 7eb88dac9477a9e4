"""The load of `scripts/load`, briefly, under each server: every answer right or a clean 503, and nothing lent at the
end."""

from __future__ import annotations

import pytest

from tests import load
from tests.sweep import Sweep

# Threads under WSGI, a loop under ASGI, and Django; the others differ from these in the server's own code only.
QUICK = ("gunicorn gthread", "uvicorn", "runserver")
SERVERS = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in load.SERVERS]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("web_server", SERVERS)
def test_a_crowd_on_eight_connections_gets_right_answers_or_a_clean_503(web_server: str, sweep: Sweep) -> None:
    if web_server in ("uvicorn", "hypercorn"):
        pytest.importorskip("starlette")
    if web_server in ("daphne", "runserver"):
        pytest.importorskip("django")
    said: list[str] = []
    seconds, clients = sweep.times(3, 15), sweep.times(30, 80)
    wrong = load.run(seconds, web_server, clients=clients, report=said.append, timeout=1, block_every=1)
    assert not wrong, "\n".join(said)
    assert any(line.endswith(" 200") for line in said)
    assert web_server in load.ONE_AT_A_TIME or any(line.endswith(" 503") for line in said)
