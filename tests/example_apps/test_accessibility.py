"""The demo pages in a real browser, on a desk and on a phone, by day and by night: all of them are usable by everyone.

axe-core (https://github.com/dequelabs/axe-core) knows most of the rules; its newer ones, and those of ours, are here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pymysql
import pytest

from pymysqlpool import ConnectionPool, status
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool
from tests.support import wait_until

from .browser import Page, browser

ROOT = Path(__file__).parent.parent.parent
WINDOWS = {
    "desk": {"width": 1280, "height": 900},
    "desk by night": {"width": 1280, "height": 900, "scheme": "dark"},
    "phone": {"width": 360, "height": 740, "phone": True},
    "phone by night": {"width": 360, "height": 740, "phone": True, "scheme": "dark"},
}
PAGES = {
    "flask": ["/", "/?q=mitten", "/?q=nothing-like-it", "/notice/1", "/new", "/people", "/nowhere"],
    "django": ["/", "/?q=nothing-like-it", "/tool/1/", "/pool/", "/nowhere/"],
    "asgi": ["/"],
}
READY = {  # what a page draws after it has loaded
    "flask": "document.querySelectorAll('#slots i').length > 0",
    "django": "true",
    "asgi": "document.querySelectorAll('#pool td').length > 0",
}

# A target is what answers to a tap: the element itself has to be hit 11 px from its centre in each direction.
# A link within a sentence is exempt (WCAG 2.5.8, "Inline").
SMALL_TARGETS = """
[
  ...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary"),
].filter((target) => {
  target.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
  const box = target.getBoundingClientRect();
  if (box.right <= 0 || box.width === 0) return false;  // not shown
  const sentence = target.parentElement.textContent.trim() !== target.textContent.trim();
  if (getComputedStyle(target).display === "inline" && sentence && target.matches("p a, td a, li a")) return false;
  const x = box.left + box.width / 2, y = box.top + box.height / 2;
  return [[-11, 0], [11, 0], [0, -11], [0, 11]].some(([dx, dy]) => {
    const hit = document.elementFromPoint(x + dx, y + dy);
    return !(hit && (hit === target || target.contains(hit)));
  });
}).map((target) => target.outerHTML.slice(0, 120))
"""


def axe() -> str:
    """axe-core's text, as the package axe-core-python brings it."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core-python is not installed")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def no_stray_threads() -> None:
    """Not here: the sites and their threads stay until the last test of them."""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture(scope="module", params=PAGES)
def site(request: pytest.FixtureRequest, server: DevServer) -> Iterator[tuple[str, str]]:
    """The name of an example, and the address where it answers."""
    database = f"seen_by_{request.param}"
    with pymysql.connect(**server.connect_args) as admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
    start = {"flask": flask_site, "django": django_site, "asgi": asgi_site}[request.param]
    with start({**server.connect_args, "database": database}) as address:
        yield request.param, address


@contextmanager
def flask_site(connect_args: dict[str, Any]) -> Iterator[str]:
    pytest.importorskip("waitress")
    from example_apps.flask_app import data, demo
    from example_apps.flask_app.app import create_app

    with ConnectionPool(**connect_args) as pool:
        data.load(pool)
    app = create_app({"PYMYSQLPOOL": {**connect_args, "size": 6, "maxsize": 6}, "PLAYGROUND": True})
    with demo.serving(app, None) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def asgi_site(connect_args: dict[str, Any]) -> Iterator[str]:
    for needed in ("starlette", "uvicorn", "websockets"):
        pytest.importorskip(needed)
    from example_apps.asgi_app import data, demo
    from example_apps.asgi_app.app import create_app

    async def load() -> None:
        async with AsyncConnectionPool(**connect_args) as pool, pool.get_connection() as connection:
            await data.load(connection)

    asyncio.run(load())
    with demo.serving(create_app(AsyncConnectionPool(**connect_args, size=4, maxsize=4)), None) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def django_site(connect_args: dict[str, Any]) -> Iterator[str]:
    pytest.importorskip("django")
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "database": "NAME"}
    environment = {f"LIBRARY_{name}": str(connect_args.get(key, "")) for key, name in names.items()}
    environment = {**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "example_apps.django_app.settings"}
    load = "import django; django.setup(); from example_apps.django_app import sample; sample.load()"
    manage = [sys.executable, "-m", "example_apps.django_app.manage"]
    subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
    subprocess.run([sys.executable, "-c", load], cwd=ROOT, env=environment, check=True)
    port = _free_port()
    process = subprocess.Popen(
        [*manage, "runserver", f"127.0.0.1:{port}", "--noreload", "-v0"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or _answers(address), "runserver answers", timeout=60)
        assert process.poll() is None, "runserver ended by itself"
        yield address
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _free_port() -> int:
    for port in random.sample(range(19000, 20000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=20) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("window", WINDOWS)
def test_every_page_is_accessible(site: tuple[str, str], page: Page, window: str) -> None:
    name, address = site
    page.see_as(**WINDOWS[window])  # type: ignore[arg-type]
    wrong: list[str] = []
    for path in PAGES[name]:
        page.open(address + path)
        page.wait_until(READY[name])
        wrong += [f"{path}: {each}" for each in _axe_says(page)]
        wrong += [f"{path}: smaller than 24 px: {each}" for each in page.evaluate(SMALL_TARGETS)]
        wrong += [f"{path}: {each}" for each in _frame(page)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("window", WINDOWS)
def test_the_status_page_is_accessible(page: Page, window: str, make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(name="shop", size=2, maxsize=2, autocommit=False)
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")
        with pool.get_connection() as other, pytest.raises(pymysql.err.OperationalError):
            other.invalidate()
            pool.get_connection(timeout=0.01)
        file = tmp_path / "status.html"
        file.write_bytes(status.page()[1])
    page.see_as(**WINDOWS[window])  # type: ignore[arg-type]
    page.open(file.as_uri())
    assert page.evaluate("document.scripts.length") == 0
    # It shows what happens now, so it may reload by itself (WCAG 2.2.1, "Real-time Exception").
    assert [each for each in _axe_says(page) if not each.startswith("meta-refresh:")] == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def _axe_says(page: Page) -> list[str]:
    page.evaluate(axe() + "; null")
    return [
        f"{found['id']}: {found['help']}: {found['nodes']}"
        for found in page.evaluate(
            "axe.run().then((found) => found.violations.map((each) => ({ id: each.id, help: each.help,"
            " nodes: each.nodes.map((node) => node.html.slice(0, 100) + ' ' + node.failureSummary) })))"
        )
    ]


def _frame(page: Page) -> list[str]:
    """What every page has in common."""
    facts = page.evaluate(
        """({
          headings: document.querySelectorAll("h1").length,
          icon: document.querySelector("link[rel~=icon]")?.getAttribute("href") ?? "",
          first: document.querySelector("a[href], button, input").outerHTML,
          skips: !!document.querySelector("a.skip[href^='#']") &&
            !!document.querySelector(document.querySelector("a.skip").getAttribute("href")),
          wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        })"""
    )
    wrong = []
    if facts["headings"] != 1:
        wrong.append(f"{facts['headings']} first headings")
    if len(facts["icon"]) < len("data:image/x,"):
        wrong.append("no icon")
    if "skip" not in facts["first"] or not facts["skips"]:
        wrong.append(f"no link past the navigation, to something that is there; first comes {facts['first']}")
    if facts["wider"] > 0:
        wrong.append(f"{facts['wider']} px wider than the window")
    return wrong


@pytest.mark.timeout(300)
def test_on_a_phone_the_pool_is_one_tap_away(site: tuple[str, str], page: Page) -> None:
    name, address = site
    page.see_as(**WINDOWS["phone"])  # type: ignore[arg-type]
    page.open(address + "/")
    page.wait_until(READY[name])
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    link = "[...document.querySelectorAll('a[href]')].find((link) => link.textContent.trim() === 'Pool')"
    assert page.evaluate(f"{link}.getBoundingClientRect().bottom < innerHeight"), "its link is in the first window"
    page.evaluate(f"{link}.click()")
    numbers = "document.querySelector('#panel, #pool, table')"
    page.wait_until(
        f"document.readyState === 'complete' && {numbers} !== null"
        f" && {numbers}.getBoundingClientRect().top >= -1 && {numbers}.getBoundingClientRect().top < innerHeight / 2"
    )


@pytest.mark.timeout(300)
def test_the_state_of_a_connection_is_told_by_more_than_its_colour(site: tuple[str, str], page: Page) -> None:
    name, address = site
    if name != "flask":
        pytest.skip("only the board draws its connections; the others write numbers")
    page.see_as(**WINDOWS["desk"])  # type: ignore[arg-type]
    page.open(address + "/")
    page.wait_until(READY[name])
    marks = page.evaluate(
        """(() => {
          const slots = document.getElementById("slots");
          return ["in_use", "idle", "connecting", ""].map((state) => {
            const slot = document.createElement("i");
            slot.className = state;
            slots.append(slot);
            const mark = getComputedStyle(slot, "::after").content;
            slot.remove();
            return mark;
          });
        })()"""
    )
    assert len(set(marks)) == 4, marks
    page.wait_until("/^\\d+ in use, \\d+ idle/.test(document.getElementById('slots').getAttribute('aria-label'))")
    page.wait_until("document.getElementById('dot').textContent === 'answers'")


@pytest.mark.parametrize(
    ("origin", "status"), [("http://elsewhere.example", 403), ("null", 403), ("http://testserver", 400), (None, 400)]
)
def test_a_form_on_another_site_cannot_write_into_the_log(
    connect_args: dict[str, Any], origin: str | None, status: int
) -> None:
    """400: the form got as far as being read."""
    pytest.importorskip("starlette")
    httpx = pytest.importorskip("httpx")
    from example_apps.asgi_app.app import create_app

    async def post() -> int:
        async with AsyncConnectionPool(**connect_args) as pool:
            transport = httpx.ASGITransport(create_app(pool))
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                headers = {} if origin is None else {"Origin": origin}
                answer = await client.post("/entries", data={"ship": ""}, headers=headers)
                return int(answer.status_code)

    assert asyncio.run(post()) == status
