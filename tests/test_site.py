"""The documentation site: it builds without a warning, its links lead somewhere, and it works in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.documentation import ROOT
from tests.example_apps.browser import browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WINDOWS = [(1280, 900, False), (360, 740, True)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as scripts/docs builds it."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", "html", "-d", f"{folder}/trees"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


class _Anchors(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.names: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name == "id" and value:
                self.names.add(value)


def test_every_link_of_the_site_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    pages = {page.resolve(): _Anchors(page) for page in site.rglob("*.html")}
    assert len(pages) > 50
    lost = []
    for page, its in pages.items():
        for link in its.links:
            target = urlsplit(link)
            if target.scheme or target.netloc or link == "#":
                continue
            file = (page.parent / unquote(target.path)).resolve() if target.path else page
            if not file.exists() or (target.fragment and unquote(target.fragment) not in pages[file].names):
                lost.append(f"{page.name}: {link}")
    assert lost == []


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_no_page_is_wider_than_its_window_and_dark_is_dark(site: Path, address: str) -> None:
    pages = [str(page.relative_to(site)) for page in site.rglob("*.html") if "_modules" not in page.parts]
    wide = []
    with browser() as tab:
        for width, height, is_phone in WINDOWS:
            tab.see_as(width, height, phone=is_phone)
            for page in pages:
                tab.open(f"{address}/{page}")
                if tab.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                    wide.append(f"{page} at {width}")
        for scheme, is_right in (("light", "> 600"), ("dark", "< 150")):
            tab.see_as(1280, 900, scheme=scheme)
            tab.open(f"{address}/index.html")
            ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g)"
            assert tab.evaluate(f"{ground}.map(Number).reduce((a, b) => a + b) {is_right}"), scheme
    assert wide == []


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("gone away", "index.html"),
        ("PoolTimeout", "errors.html"),
        ("gunicorn", "guides/deployment.html"),
        ("connect_errors", "reference/pool.html"),
    ],
)
def test_search_finds(address: str, words: str, page: str) -> None:
    with browser() as tab:
        tab.open(f"{address}/search.html?q={words.replace(' ', '+')}")
        tab.wait_until(f"document.querySelectorAll('#search-results a[href*=\"{page}\"]').length > 0")
