"""The dashboard and the alert rules ask for metrics that exist, with labels that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pymysqlpool.prometheus import PoolCollector
from pymysqlpool.reuse import Reason
from tests.conftest import MakePool

FOLDER = Path(__file__).parent.parent.parent / "monitoring"
DASHBOARD = FOLDER / "grafana-dashboard.json"
ALERTS = FOLDER / "prometheus-alerts.yml"


@pytest.fixture
def exported(make_pool: MakePool) -> set[str]:
    """The names of the samples, and the labels, that a scrape shows."""
    pool = make_pool(max_uses=1)
    for _ in range(2):
        with pool.get_connection() as connection:
            connection.execute("SELECT 1")
    registry = CollectorRegistry()
    registry.register(PoolCollector())
    samples = [
        sample
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    ]
    return {sample.name for sample in samples} | {label for sample in samples for label in sample.labels}


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:db_client|pymysqlpool)_\w+", text))


def test_the_dashboard_asks_for_metrics_that_exist(exported: set[str]) -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "pool"}
    asked = names_in("\n".join([*expressions, json.dumps(dashboard["templating"])]))
    assert len(asked) > 10
    assert asked <= exported
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["description"]


def test_the_alerts_ask_for_metrics_and_reasons_that_exist(exported: set[str]) -> None:
    text = ALERTS.read_text()
    assert names_in(text) - {"pymysqlpool_discarded_total"} <= exported
    (reasons,) = re.findall(r'reason=~"([^"]*)"', text)
    assert set(reasons.split("|")) <= {reason.value for reason in Reason}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Prometheus' promtool")
def test_prometheus_accepts_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(ALERTS)], check=True, capture_output=True)
