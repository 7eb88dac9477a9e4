"""Every Python block of README and docs/ does what it says: each runs here on a real server, or names the test that
does it.

Pages about Flask, Django and ASGI are programs of their own; the tests beside those adapters run them.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pymysql
import pytest

from pymysqlpool.devserver import DevServer
from tests import public_api
from tests.documentation import ROOT, Page, prepare_shop
from tests.messages import messages

PAGES = [Path("README.md"), *sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))]

# Run by tests beside what they describe.
ELSEWHERE = {
    "docs/async.md": "tests/aio/test_documentation.py",
    "docs/flask.md": "tests/flask/test_documentation.py",
    "docs/wsgi.md": "tests/middleware/test_documentation.py",
    "docs/django.md": "tests/django/test_documents.py",
}
PROGRAMS = [
    page for page in PAGES if str(page) not in ELSEWHERE and any(block.shown for block in Page(page).blocks("python"))
]


@pytest.mark.parametrize("page", PROGRAMS, ids=str)
def test_the_code_on_the_page_runs(page: Path, server: DevServer, admin: Any) -> None:
    prepare_shop(admin)
    Page(page).run(server)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_block_that_does_not_run_here_says_which_test_runs_it(page: Path) -> None:
    for block in Page(page).blocks("python"):
        if block.not_run is not None:
            (test,) = re.findall(r"tests/[\w/]+\.py", block.not_run)
            assert str(page) in (ROOT / test).read_text(), f"{page}:{block.line}"


def test_each_test_of_a_page_elsewhere_names_it() -> None:
    for page, tests in ELSEWHERE.items():
        assert Path(page).name in (ROOT / tests).read_text()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"^(`{3,}).*?^\1", "", Page(page).text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if heading:
            assert heading in anchors(file.read_text()), f"{page}: {target}"


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ +(.+?) *$", text, re.M)
    explicit = re.findall(r"^\((\w[\w-]*)\)=$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles} | set(explicit)


def errors_of_the_package() -> set[str]:
    """Every exception of a public module."""
    found: set[str] = set()
    for module in (importlib.import_module(name) for name in public_api.modules() if name.startswith("pymysqlpool.")):
        for name, value in vars(module).items():
            public = isinstance(value, type) and not name.startswith("_") and value.__module__ == module.__name__
            if public and issubclass(value, BaseException):
                found.add(name)
    return found | {"ConfigError"}


def test_every_error_is_on_the_error_page() -> None:
    headings = set(re.findall(r"^#+ (\w+)$", (ROOT / "docs/errors.md").read_text(), re.M))
    errors = errors_of_the_package() - {"PoolError"}
    assert len(errors) > 14
    assert not errors - headings


def test_every_message_is_on_the_error_page() -> None:
    """Its words, so that a search for them leads to cause and way out."""
    text = re.sub(r"^> ?", "", (ROOT / "docs/errors.md").read_text(), flags=re.M)
    page = " ".join(text.split())
    all_of_them = list(messages())
    assert len(all_of_them) > 220
    assert [message for message in all_of_them if not message.is_on(page)] == []


def test_every_public_module_is_in_the_reference() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    documented = set(re.findall(r"^\.\. automodule:: (\S+)$", pages, re.M))
    assert documented == set(public_api.modules())


def test_a_reference_that_lists_its_members_lists_all() -> None:
    """Quick, for a module whose members are listed by hand; `scripts/docs` warns of every name that has no entry."""
    pages = "".join(page.read_text() for page in sorted((ROOT / "docs/reference").glob("*.md")))
    sections = re.findall(r"^\.\. automodule:: (\S+)\n   :members: .+?(?=^\.\. automodule|\Z)", pages, re.M | re.S)
    assert len(sections) >= 4
    for module in sections:
        text = pages[pages.index(f".. automodule:: {module}\n") :].partition("\n## ")[0]
        names = {name.removeprefix(f"{module}.") for name in public_api.names() if name.startswith(f"{module}.")}
        missing = {name for name in names if "." not in name and not re.search(rf"\b{name}\b", text)}
        assert missing <= set(vars(pymysql.err)), f"{module}: {missing}"


def test_the_messages_on_the_error_page_are_the_codes() -> None:
    """Each quoted message has a piece that stands in the code."""
    code = "".join(
        re.sub(r'["\']\s*\n\s*f?["\']', "", file.read_text())
        for package in ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django")
        for file in (ROOT / package).rglob("*.py")
    )
    page = (ROOT / "docs/errors.md").read_text()
    quoted = [re.sub(r"\n> ?", " ", quote) for quote in re.findall(r"^> (.+(?:\n> .+)*)", page, re.M)]
    assert len(quoted) > 12
    for message in quoted:
        pieces = re.split(r"\(\w+\)|[\d.]+|'[^']*'|\.\.\.|\b\w+\.py\b|=", message)
        assert any(len(piece) >= 14 and piece.strip() in code for piece in pieces), message
