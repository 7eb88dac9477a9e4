"""The dashboard and the alert rules ask for metrics that exist, with labels that exist."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from example_apps.flask_app import data
from pymysqlpool import ConnectionPool
from pymysqlpool.devserver import DevServer
from pymysqlpool.prometheus import PoolCollector
from pymysqlpool.reuse import Reason
from tests.conftest import MakePool
from tests.serving import Web, serving
from tests.support import wait_until

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


def test_grafanas_own_model_of_a_dashboard_knows_each_field() -> None:
    """Grafana's SDK is made from the schema of its dashboards. A field that it does not know is lost on the way through
    its classes; a kind of panel or of query that it does not know stays a plain dict."""
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    timeseries, queries, encoder, plugins = (
        importlib.import_module(f"grafana_foundation_sdk.{name}")
        for name in ("models.timeseries", "models.prometheus", "cog.encoder", "cog.plugins")
    )
    plugins.register_default_plugins()
    given = json.loads(DASHBOARD.read_text())
    dashboard = sdk.Dashboard.from_json(given)
    for panel in dashboard.panels:
        assert isinstance(panel.options, timeseries.Options)
        assert all(isinstance(target, queries.Dataquery) for target in panel.targets)
    assert _missing(given, json.loads(json.dumps(dashboard, cls=encoder.JSONEncoder))) == []


def _missing(given: Any, kept: Any, place: str = "") -> list[str]:
    """The places of `given` whose value is not the same in `kept`, which may have more."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [at for key in given for at in _missing(given[key], kept.get(key), f"{place}/{key}")]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        return [
            at
            for number, pair in enumerate(zip(given, kept, strict=True))
            for at in _missing(*pair, f"{place}/{number}")
        ]
    return [] if given == kept else [place]


def test_the_alerts_ask_for_metrics_and_reasons_that_exist(exported: set[str]) -> None:
    text = ALERTS.read_text()
    assert names_in(text) - {"pymysqlpool_discarded_total"} <= exported
    (reasons,) = re.findall(r'reason=~"([^"]*)"', text)
    assert set(reasons.split("|")) <= {reason.value for reason in Reason}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Prometheus' promtool")
def test_prometheus_accepts_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(ALERTS)], check=True, capture_output=True)


PROMETHEUS = """
global: {{scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 500ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: shop
    metrics_path: /pools/metrics
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


Api = Callable[..., Any]


@contextmanager
def prometheus_of(port: int, folder: Path) -> Iterator[Api]:
    """Run Prometheus on what answers at `port`; yield its API, which takes a path and a query. None until it is up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        its_port = free.getsockname()[1]
    (folder / "prometheus.yml").write_text(PROMETHEUS.format(rules=ALERTS, port=port))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{its_port}"], stdout=log, stderr=log)

    def api(path: str, **query: str) -> Any:
        try:
            url = f"http://127.0.0.1:{its_port}/api/v1/{path}?{urlencode(query)}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 503:
                pytest.fail(f"{query}: {error.read().decode()}")
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
        return None

    try:
        yield api
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus")
def test_a_real_prometheus_scrapes_the_demo_and_answers_every_panel_and_rule(tmp_path: Path) -> None:
    with DevServer(database="board") as database:
        with ConnectionPool(**database.connect_args) as pool:
            data.load(pool)
        environment = {
            f"FLASK_PYMYSQLPOOL__{name.upper()}": str(value) for name, value in database.connect_args.items()
        }
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "shared")
        workers = ["--workers", "2"]
        with (
            serving("gunicorn sync", "tests.observe.scraped_demo:app", environment, options=workers) as web,
            prometheus_of(web.port, tmp_path) as api,
        ):
            check_what_it_answers(web, api)


def check_what_it_answers(web: Web, api: Api) -> None:
    def values(expression: str) -> list[str]:
        return [one["value"][1] for one in (api("query", query=expression) or {"result": []})["result"]]

    wait_until(lambda: values("up") == ["1"], "a scrape", timeout=20)
    for number in range(20):
        assert web.ask("GET", f"/?page={number % 3 + 1}")[0] == 200
    wait_until(lambda: values("sum(pymysqlpool_borrowed_total)") == ["20"], "what both workers did")
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            asked = target["expr"].replace("$pool", ".*").replace("$__rate_interval", "1m")
            # a refused expression fails in `api`; nothing has been closed here, by no reason
            wait_until(lambda asked=asked: values(asked) or "discarded" in asked, f"{panel['title']}: {asked}")

    def rules() -> list[dict[str, Any]]:
        return [rule for group in api("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: rules() and all(rule["health"] == "ok" for rule in rules()), "each rule is evaluated")
    assert len(rules()) == ALERTS.read_text().count("- alert:")
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []
