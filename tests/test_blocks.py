"""Blocks of README and docs/ that need more than a Python program beside the test server: another process, a cloud's
login, a command line, a file of another program. Each is taken from its page as it is printed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pymysql
import pytest

from benchmarks.bench import write_certificate
from pymysqlpool import ConnectionPool
from pymysqlpool._cli import _parser
from pymysqlpool.devserver import DevServer
from tests.documentation import ROOT, Page, prepare_shop, with_port
from tests.routing import haproxy
from tests.test_documentation import PAGES

OTHERS = [Path("CONTRIBUTING.md"), Path("benchmarks/README.md"), *sorted(ROOT.glob("example_apps/*/README.md"))]


def the_block(page: str, containing: str) -> str:
    (found,) = [block.code for block in Page(page).blocks() if block.shown and containing in block.code]
    return found


def run(code: str, folder: Path, name: str = "program.py") -> str:
    """What the program prints, in a process of its own."""
    (folder / name).write_text(code)
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- processes -------------------------------------------------------------------------------------------------


def test_multiprocessing_as_it_is_shown(server: DevServer, admin: Any, tmp_path: Path) -> None:
    prepare_shop(admin)
    code = "from pymysqlpool import ConnectionPool\n" + the_block("docs/guides/libraries.md", "multiprocessing.Pool")
    assert run(with_port(code, server.port), tmp_path).strip() == "[(3,), (5,)]"


def test_libraries_find_our_aiomysql_as_it_is_shown(server: DevServer, admin: Any, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    prepare_shop(admin)
    page = "docs/migrating/from-aiomysql.md"
    inner = the_block(page, "async_creator")
    code = f"""
{the_block(page, "install_as_aiomysql()")}
import asyncio
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine
import aiomysql

async def main():
    pool = await aiomysql.create_pool(host="127.0.0.1", user="me", password="secret", db="shop")
    {inner.strip()}
    async with engine.connect() as connection:
        print((await connection.execute(text("SELECT name FROM item WHERE id = 7"))).scalar_one())
    await engine.dispose()
    pool.close()
    await pool.wait_closed()

asyncio.run(main())
"""
    assert run(with_port(code, server.port), tmp_path).strip() == "net"


def test_the_fixtures_of_flask_as_they_are_shown(server: DevServer, admin: Any, tmp_path: Path) -> None:
    """One conftest.py with both blocks: what a test writes is undone, and a connection left behind is a failure."""
    pytest.importorskip("flask")
    prepare_shop(admin)
    fixture = the_block("docs/flask.md", "def clean_database")
    line = the_block("docs/flask.md", "pytest_plugins")
    (tmp_path / "shop.py").write_text(with_port(the_block("docs/tutorials/flask.md", "PyMySQLPool(app)"), server.port))
    (tmp_path / "conftest.py").write_text(
        f"import pytest\nimport shop\nfrom shop import db\n{line}\n@pytest.fixture\ndef app():\n"
        f"    return shop.app\n\n{fixture}"
    )
    (tmp_path / "test_shop.py").write_text("""
from shop import db

def test_a_hook_is_sold(app):
    client = app.test_client()
    assert client.post("/items", data={"name": "hook"}).status_code == 302
    assert client.get("/").json[-1]["name"] == "hook"

kept = []

def test_a_connection_is_kept(app):
    kept.append(db.get_pool(app=app).get_connection())
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # their import takes ten times as long as all the rest
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert re.search(r"ERROR test_shop\.py::test_a_connection_is_kept", done.stdout), done.stdout
    assert re.search(r"borrowed at \S*test_shop\.py:\d+ in test_a_connection_is_kept", done.stdout), done.stdout
    assert "2 passed, 1 error" in done.stdout, done.stdout
    with admin.cursor() as cursor:
        assert not cursor.execute("SELECT 1 FROM shop.item WHERE name = 'hook'")


# -- cloud logins ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DevServer, str]]:
    """A server whose certificate is for 127.0.0.1, with the accounts of the guide; and its authority's file."""
    pytest.importorskip("cryptography")
    certificate, key = write_certificate(tmp_path_factory.mktemp("cloud"))
    options = [f"--ssl-cert={certificate}", f"--ssl-key={key}", f"--ssl-ca={certificate}"]
    with DevServer(binary=request.config.getoption("--server"), options=options) as server:
        with pymysql.connect(**server.connect_args) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE shop")
            for user in ("app", "app@contoso.onmicrosoft.com"):
                cursor.execute(f"CREATE USER '{user}'@'%' IDENTIFIED BY 'a token' REQUIRE SSL")
                cursor.execute(f"GRANT ALL ON shop.* TO '{user}'@'%'")
        yield server, str(certificate)


def _amazon(asked: list[Any]) -> dict[str, Any]:
    def token(*, DBHostname: str, Port: int, DBUsername: str) -> str:
        asked.append(DBUsername)
        return "a token"

    return {"boto3": SimpleNamespace(client=lambda name, region_name: SimpleNamespace(generate_db_auth_token=token))}


def _google(asked: list[Any]) -> dict[str, Any]:
    credentials = SimpleNamespace(valid=False, token=None)

    def refresh(request: Any) -> None:
        asked.append(request)
        credentials.valid, credentials.token = True, "a token"

    credentials.refresh = refresh
    transport = SimpleNamespace(Request=object)
    auth = SimpleNamespace(default=lambda scopes: (credentials, "project"), transport=transport)
    return {
        "google": SimpleNamespace(auth=auth),
        "google.auth": auth,
        "google.auth.transport": transport,
        "google.auth.transport.requests": transport,
    }


def _microsoft(asked: list[Any]) -> dict[str, Any]:
    def get_token(scope: str) -> Any:
        asked.append(scope)
        return SimpleNamespace(token="a token")

    identity = SimpleNamespace(DefaultAzureCredential=lambda: SimpleNamespace(get_token=get_token))
    return {"azure": SimpleNamespace(identity=identity), "azure.identity": identity}


CLOUDS = {"boto3": _amazon, "google.auth": _google, "azure.identity": _microsoft}


@pytest.mark.parametrize("library", CLOUDS)
def test_a_cloud_login_as_it_is_shown(library: str, cloud: tuple[DevServer, str], monkeypatch: Any) -> None:
    """The provider's library and its server are ours; the pool, its TLS and the callable password are as shown."""
    server, certificate = cloud
    asked: list[Any] = []
    for name, module in CLOUDS[library](asked).items():
        made = ModuleType(name)
        made.__dict__.update(vars(module))
        monkeypatch.setitem(sys.modules, name, made)
    code = the_block("docs/guides/credentials.md", f"{library}")
    code = re.sub(r'"[^"]+\.pem"|"/etc/ssl/certs/[^"]+"', repr(certificate), code)
    code = re.sub(r'"(shop\.[\w.-]+|10\.0\.0\.3)"', '"127.0.0.1"', code)
    code = re.sub(r"\bhost=([^,]+),", rf"host=\1, port={server.port},", code)
    names: dict[str, Any] = {"ConnectionPool": ConnectionPool}
    exec(compile(code, "docs/guides/credentials.md", "exec"), names)
    with names["pool"] as pool, pool.get_connection(timeout=20) as connection:
        assert len(asked) == 1
        connection.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert connection.fetchone()[1], "encrypted"


# -- command lines and files of other programs -------------------------------------------------------------------


def _lines(page: Path) -> Iterator[str]:
    """The command lines on the page."""
    for block in blocks_that_are_not_python(page):
        if block[0] in ("", "sh"):
            for line in re.sub(r"\\\n\s*", " ", block[1]).splitlines():
                command = re.sub(r"\s+#.*", "", line).strip()
                if command:
                    yield from (part.strip() for part in command.split("&&"))


def blocks_that_are_not_python(page: Path) -> list[tuple[str, str]]:
    """Language and text of each."""
    text = (ROOT / page).read_text()
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    return [(language, code) for language, code in found if language != "python" and not language.startswith("{")]


def _is_a_script(words: list[str]) -> None:
    script = ROOT / words[0]
    assert script.is_file()
    assert os.access(script, os.X_OK)
    if words[0] == "scripts/demo" and len(words) > 1:
        assert re.search(rf"\b{words[1]}\b", script.read_text())


def _is_an_extra(words: list[str]) -> None:
    if words[1] == "install":
        assert words[2].partition("[")[0] == "pymysqlpool-web"


def _is_a_command_of_ours(words: list[str]) -> None:
    module = words[2]
    if module == "pymysqlpool":
        _parser().parse_args([word.replace("URL", "mysql://me@db1/shop") for word in words[3:]])
    else:
        assert importlib.util.find_spec(module), module


def _is_a_file(words: list[str]) -> None:
    """`python benchmarks/x.py`, `python manage.py command`."""
    if words[1] != "manage.py":
        assert (ROOT / words[1]).is_file()
    else:
        pytest.importorskip("django")
        app = "pymysqlpool_django" if words[2] == "poolstatus" else "django.core"
        code = (
            "from django.conf import settings; from django.core.management import load_command_class as load\n"
            "settings.configure(DATABASES={'default': {'ENGINE': 'pymysqlpool_django'}})\n"
            f"load({app!r}, {words[2]!r}).create_parser('manage.py', {words[2]!r}).parse_args({words[3:]!r})"
        )
        subprocess.run(
            [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
        )


def _gunicorn(words: list[str]) -> None:
    config = pytest.importorskip("gunicorn.config")
    config.Config().parser().parse_args(words[1:])


def _uvicorn(words: list[str]) -> None:
    pytest.importorskip("uvicorn").main.make_context("uvicorn", words[1:])


def _uwsgi(words: list[str]) -> None:
    program = Path(sys.executable).with_name("uwsgi")
    if not program.exists():
        pytest.skip("no uWSGI")
    known = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60).stdout
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{word}\b", known), word


COMMANDS = {
    r"scripts/\w+": _is_a_script,
    r"pip (install|uninstall) ": _is_an_extra,
    r"python -m ": _is_a_command_of_ours,
    r"python [\w/]+\.py": _is_a_file,
    r"gunicorn ": _gunicorn,
    r"uvicorn ": _uvicorn,
    r"uwsgi ": _uwsgi,
    r"(PYTHON|PYMYSQLPOOL)\w*=\S+ ": lambda words: None,
    r"export PYMYSQLPOOL_BOARD=": lambda words: None,  # tests/observe has it
    r"(git clone|cd) ": lambda words: None,
}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page).removeprefix(f"{ROOT}/"))
def test_the_command_lines_on_the_page_are_understood(page: Path) -> None:
    for line in _lines(page):
        if line.startswith(("listen ", "sum by", "bind ", "option ", "http-check", "default-server", "server ")):
            continue  # below
        check = next((its for pattern, its in COMMANDS.items() if re.match(pattern, line)), None)
        assert check is not None, f"{page}: {line}"
        check(shlex.split(line))


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page).removeprefix(f"{ROOT}/"))
def test_every_block_is_in_a_notation_that_is_tested(page: Path) -> None:
    text = (ROOT / page).read_text()
    fences = re.findall(r"^ *(`{3,}|~{3,})([^\n]*)$", text, re.M)
    assert {language for _, language in fences if not language.startswith("{")} <= {"", "python", "sh", "yaml"}
    assert not re.search(r"^ +(```|~~~)", text, re.M), "an indented block is not found by the tests"


def test_the_files_for_kubernetes_and_compose_are_valid() -> None:
    yaml = pytest.importorskip("yaml")
    probes, compose = [yaml.safe_load(code) for language, code in blocks_that_are_not_python(DEPLOYMENT) if language]
    assert set(probes) == {"readinessProbe", "livenessProbe", "lifecycle", "terminationGracePeriodSeconds"}
    assert probes["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8000}
    command = compose["services"]["web"]["command"]
    _gunicorn(shlex.split(command))
    assert set(compose["services"]["web"]["depends_on"]) <= set(compose["services"])


DEPLOYMENT = Path("docs/guides/deployment.md")


def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    program = haproxy.program()
    if program is None:
        pytest.skip("no haproxy")
    (code,) = [code for _, code in blocks_that_are_not_python(Path("docs/guides/proxies.md"))]
    head = "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1m\n    timeout server 1m\n"
    (tmp_path / "haproxy.cfg").write_text(head + code)
    done = subprocess.run(
        [program, "-c", "-f", "haproxy.cfg"],
        cwd=tmp_path,
        env={**os.environ, "LD_LIBRARY_PATH": haproxy.libraries()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_query_for_prometheus_asks_for_a_metric_that_there_is() -> None:
    queries = [code for _, code in blocks_that_are_not_python(Path("docs/observability.md")) if "rate(" in code]
    assert len(queries) == 1
    names = set(re.findall(r"db_client_\w+", queries[0]))
    assert names == {"db_client_connection_pool_name", "db_client_connection_use_time_seconds_sum"}
    dashboard = (ROOT / "monitoring/grafana-dashboard.json").read_text()
    assert all(name.removesuffix("_sum") in dashboard for name in names)
