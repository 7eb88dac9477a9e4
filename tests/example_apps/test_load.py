"""The load of `scripts/load`, briefly: every answer right or a clean 503, and nothing lent at the end."""

from __future__ import annotations

import pytest

from tests import load


@pytest.mark.timeout(150)
def test_a_crowd_on_eight_connections_gets_right_answers_or_a_clean_503() -> None:
    pytest.importorskip("gunicorn")
    said: list[str] = []
    wrong = load.run(8, clients=80, report=said.append)
    assert not wrong, "\n".join(said)
    assert any(line.endswith(" 200") for line in said)
