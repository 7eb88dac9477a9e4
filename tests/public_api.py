"""The public names, read from the source: `python -m tests.public_api` writes them to tests/public_api.txt.

A name is public if no part of its path begins with an underscore: functions and classes of public modules, what these
list in `__all__`, and the methods, properties and annotated attributes of classes that a public module defines. Of the
Flask and Django packages a few modules are public. Nothing is imported: the list does not depend on what is installed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django")
# Of these packages, the modules that a project imports or names; the others are called by the framework.
DOORS = {
    "pymysqlpool_flask": {"pymysqlpool_flask"},
    "pymysqlpool_django": {f"pymysqlpool_django.{module}" for module in ("carried", "middleware", "routers", "views")},
}
FILE = Path(__file__).with_suffix(".txt")


def names() -> list[str]:
    """Every public name, dotted, sorted."""
    return sorted({name for package in PACKAGES for file in (ROOT / package).rglob("*.py") for name in _names_of(file)})


def modules() -> list[str]:
    """Every public module."""
    return sorted(filter(None, (_module(file) for package in PACKAGES for file in (ROOT / package).rglob("*.py"))))


def _module(file: Path) -> str:
    """The name of the module in `file`; empty if it is not public."""
    parts = [*file.relative_to(ROOT).with_suffix("").parts]
    if parts[-1] == "__init__":
        parts.pop()
    name = ".".join(parts)
    is_public = not any(part.startswith("_") for part in parts) and name in DOORS.get(parts[0], {name})
    return name if is_public else ""


def _names_of(file: Path) -> Iterator[str]:
    module = _module(file)
    if not module:
        return
    tree = _tree(file)
    listed = _listed(tree)
    defined = _definitions(tree)
    for name in listed if listed is not None else [name for name in defined if not name.startswith("_")]:
        yield f"{module}.{name}"
        node = defined.get(name)
        if isinstance(node, ast.ClassDef):
            yield from (f"{module}.{name}.{member}" for member in {*_members(node), *_inherited(file, tree, node)})


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def _listed(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def _inherited(file: Path, tree: ast.Module, node: ast.ClassDef) -> Iterator[str]:
    """The members of bases that live in a private module: no list of that module names them."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    for item in tree.body:
        if not isinstance(item, ast.ImportFrom) or not item.level or not item.module:
            continue
        source = file.parents[item.level - 1].joinpath(*item.module.split(".")).with_suffix(".py")
        if not source.exists() or _module(source):
            continue
        for alias in item.names:
            base = _definitions(_tree(source)).get(alias.name)
            if alias.name in bases and isinstance(base, ast.ClassDef):
                yield from _members(base)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            name = item.name
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            name = item.target.id
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            name = item.targets[0].id
        else:
            continue
        if not name.startswith("_"):
            yield name


if __name__ == "__main__":
    FILE.write_text("\n".join(names()) + "\n")
