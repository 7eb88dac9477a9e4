"""Sphinx's configuration: scripts/docs builds the site from docs/*.md and the docstrings, offline."""

import re
from importlib import import_module
from pathlib import Path
from types import FunctionType

from django.conf import settings
from sphinx.util.logging import getLogger

from pymysqlpool._util import late

settings.configure()  # modules for Django import it, and autodoc looks at each of their names
import_module("pymysqlpool.pool")
late.load()  # what annotations name and the first pool would load
LOGGER = getLogger(__name__)
ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/pymysqlpool/pymysqlpool"
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "pymysqlpool/__init__.py").read_text(), re.M)[1]

project = "pymysqlpool"
author = "The pymysqlpool developers"
copyright = author
release = version = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"pymysqlpool {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c8a", "color-brand-content": "#0b5c8a"},
    "dark_css_variables": {"color-brand-primary": "#6cb8e6", "color-brand-content": "#6cb8e6"},
}
suppress_warnings = ["config.cache"]

# -- API reference from docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
viewcode_follow_imported_members = False  # names of PyMySQL have no source here
napoleon_use_ivar = False  # each attribute is an entry of its own, which index and search find
python_use_unqualified_type_names = True

# The build is offline, so names of other projects and types that are no part of the API lead nowhere.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!pymysqlpool).*"),
    (r"py:.*", r".*\._.*"),
]
default_role = "code"
highlight_language = "none"


def _to_the_repository(app, docname, source):  # type: ignore[no-untyped-def]
    """A link to a file that is no page leads to the file in the repository."""
    folder = Path(app.srcdir, docname).parent

    def absolute(link):  # type: ignore[no-untyped-def]
        target = (folder / link[1]).resolve()
        if target.is_relative_to(app.srcdir) or not target.is_relative_to(ROOT):
            return link[0]
        return f"]({REPOSITORY}/{'tree' if target.is_dir() else 'blob'}/main/{target.relative_to(ROOT)})"

    source[0] = re.sub(r"\]\((\.\./[^)\s#]+)\)", absolute, source[0])


def _to_restructured_text(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
    """Docstrings are plain text: indented blocks are code, and lines of pipes are tables."""
    text = [line.replace("*", r"\*") if line.lstrip().startswith("*args") else line for line in lines]
    if what == "module":  # what follows is for developers of the file
        inner = [
            number for number, line in enumerate(text) if re.match("Owns|Never|Invariant|What this file never", line)
        ]
        text = text[: inner[0]] if inner else text
    lines[:] = []
    table: list[str] = []
    in_block = False
    for line in [*text, ""]:
        if line.startswith("|") and line.endswith("|"):
            table.append(line)
            continue
        if table:
            lines += ["", *_list_table(table), ""]
            table = []
        indented = line.startswith("    ") or (in_block and line.startswith("  "))
        if what == "module" and indented and not in_block:
            lines += ["", "::", ""]
            in_block = True
        elif line and not indented:
            in_block = False
        if line.startswith("- ") and lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
            lines.append("")  # a list begins
        lines.append(line)


def _list_table(rows: list[str]) -> list[str]:
    cells = [
        [cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows if not re.match(r"\|[- |]+\|$", row)
    ]
    out = [".. list-table::", "   :header-rows: 1", ""]
    for row in cells:
        out += [f"   {'* -' if number == 0 else '  -'} {cell}" for number, cell in enumerate(row)]
    return out


def _warn_of_gaps(app, env):  # type: ignore[no-untyped-def]
    """Each name of tests/public_api.txt is an entry of the reference, or another name of one, or inherited from one."""
    entries = set(env.domaindata["py"]["objects"])
    objects = [_object(name) for name in entries if name.startswith("pymysqlpool")]
    for name in (ROOT / "tests/public_api.txt").read_text().split():
        owner, _, member = name.rpartition(".")
        bases = getattr(_object(owner), "__mro__", ())
        inherited = {f"{base.__module__}.{base.__qualname__}.{member}" for base in bases}
        is_alias = _object(name) is not None and any(_object(name) is found for found in objects)
        if name not in entries and not is_alias and not inherited & entries:
            LOGGER.warning("%s is public, and the reference does not have it", name)


def _object(name: str) -> object:
    """The class or function of a module that has this name; None: it is neither."""
    module, _, name = name.rpartition(".")
    try:
        found = getattr(import_module(module), name, None) if module else None
    except ImportError:
        return None
    return found if isinstance(found, type | FunctionType) else None


def setup(app):  # type: ignore[no-untyped-def]
    app.connect("env-check-consistency", _warn_of_gaps)
    app.connect("source-read", _to_the_repository)
    app.connect("autodoc-process-docstring", _to_restructured_text, priority=400)
