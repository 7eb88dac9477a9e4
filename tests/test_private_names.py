"""No wing uses a private name of another wing's class, and no file imports one of another's, read from the source.

Annotations tell of which class an expression is: those of parameters and attributes, and calls of classes. So a name
that two wings have for different things hides nothing, nor does a second name for an object. Where they tell nothing
(`Any`), the name alone decides: the wing must have it itself. A class may use its bases' private names on itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.test_architecture import ALL, tree_of, wing

ASK_BY_NAME = ("getattr", "setattr", "hasattr", "delattr", "attrgetter", "__setattr__", "__getattribute__")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Kind = tuple[str, str]  # module and name of a class


def is_private(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and name.startswith("_") and not name.startswith("__")


@cache
def classes_of(module: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.walk(tree_of(ALL[module])) if isinstance(node, ast.ClassDef)}


@cache
def imported_in(module: str) -> dict[str, Kind]:
    """What each imported name means: a module and a name in it."""
    found = {}
    package = module.split(".") if ALL[module].stem == "__init__" else module.split(".")[:-1]
    for node in ast.walk(tree_of(ALL[module])):
        if isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *filter(None, [node.module])])
            found |= {alias.asname or alias.name: (base, alias.name) for alias in node.names}
    return found


@cache
def class_named(module: str, name: str) -> Kind | None:
    """The class that `name` means in `module`, where it is one of the three packages'."""
    if module not in ALL:
        return None
    if name in classes_of(module):
        return module, name
    imported = imported_in(module).get(name)
    return class_named(*imported) if imported is not None and imported != (module, name) else None


def annotated(module: str, annotation: ast.expr | None) -> Kind | None:
    """The class of an annotation: `Name`, `module.Name`, `Name | None`, `"Name"`; None where it is another."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        sides = [annotated(module, side) for side in (annotation.left, annotation.right)]
        known = [side for side in sides if side is not None]
        return known[0] if len(known) == 1 else None
    if isinstance(annotation, ast.Name):
        return class_named(module, annotation.id)
    if isinstance(annotation, ast.Attribute) and isinstance(annotation.value, ast.Name):
        base = imported_in(module).get(annotation.value.id)
        return class_named(".".join(base), annotation.attr) if base is not None else None
    return None


@cache
def line_of_bases(kind: Kind) -> tuple[Kind, ...]:
    """The class and its bases in the three packages."""
    module, name = kind
    bases = [annotated(module, base) for base in classes_of(module)[name].bases]
    return kind, *(above for base in bases if base is not None and base != kind for above in line_of_bases(base))


@cache
def attributes_of(kind: Kind) -> dict[str, Kind | None]:
    """What the class itself gives its instances, and of which class each attribute is."""
    module, name = kind
    found: dict[str, Kind | None] = {}
    for node in classes_of(module)[name].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = annotated(module, node.annotation)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == "__slots__":
                    names = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
                    found |= {each: found.get(each) for each in names if isinstance(each, str)}
                found |= {each.id: None for each in ast.walk(target) if isinstance(each, ast.Name)}
        elif isinstance(node, Function):
            is_property = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
            found[node.name] = annotated(module, node.returns) if is_property else None
            names_known = parameters(module, node, kind)
            for each in ast.walk(node):
                for attribute, value, annotation in stores_on_self(each):
                    kind_of_it = annotated(module, annotation)
                    if kind_of_it is None and isinstance(value, ast.Name | ast.Call):
                        kind_of_it = made(module, value, names_known)
                    found[attribute] = found.get(attribute) or kind_of_it
    return found


def stores_on_self(node: ast.AST) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Name, value and annotation of each attribute that a statement gives to `self`, by its dict too."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            for each in ast.walk(target):
                if isinstance(each, ast.Attribute) and ast.unparse(each.value) in ("self", "cls"):
                    yield each.attr, node.value, node.annotation if isinstance(node, ast.AnnAssign) else None
                elif ast.unparse(each).startswith("self.__dict__["):
                    assert isinstance(each, ast.Subscript)
                    yield ast.unparse(each.slice).strip("'"), None, None


def parameters(module: str, function: Function, owner: Kind | None) -> dict[str, Kind | None]:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    known = {each.arg: annotated(module, each.annotation) for each in arguments}
    if owner is not None and arguments and arguments[0].arg in ("self", "cls") and not arguments[0].annotation:
        known[arguments[0].arg] = owner
    return known


def made(module: str, value: ast.expr | None, known: dict[str, Kind | None]) -> Kind | None:
    """The class of an expression, as far as it is known."""
    if isinstance(value, ast.Name):
        return known.get(value.id)
    if isinstance(value, ast.Call):
        return annotated(module, value.func)
    if isinstance(value, ast.Attribute):
        of = made(module, value.value, known)
        for kind in line_of_bases(of) if of is not None else ():
            if value.attr in attributes_of(kind):
                return attributes_of(kind)[value.attr]
    return None


Use = tuple[int, str, Kind | None, bool]  # line, name, the class that it is asked of, whether of the class's own `self`


def named(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """What is asked for an attribute, and for which: by `x.name`, `getattr(x, "name")`, `x.__dict__["name"]` ..."""
    if isinstance(node, ast.Attribute):
        yield node.value, node.attr
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ASK_BY_NAME:
        yield from ((node.args[0], str(each.value)) for each in node.args if isinstance(each, ast.Constant))
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        asked = node.value
        if isinstance(asked, ast.Attribute) and asked.attr == "__dict__":
            asked = asked.value
        elif isinstance(asked, ast.Call) and ast.unparse(asked.func) == "vars":
            asked = asked.args[0]
        yield asked, str(node.slice.value)
    elif isinstance(node, ast.Assign):
        owners = [each.value for each in node.targets if isinstance(each, ast.Attribute) and each.attr == "__dict__"]
        keys = [key for each in ast.walk(node.value) if isinstance(each, ast.Dict) for key in each.keys]
        yield from ((owner, str(key.value)) for owner in owners for key in keys if isinstance(key, ast.Constant))


def uses(module: str) -> Iterator[Use]:
    """Each use of a private name, by an attribute or by a string."""

    def walk(node: ast.AST, known: dict[str, Kind | None], owner: Kind | None) -> Iterator[Use]:
        if isinstance(node, ast.ClassDef):
            owner = module, node.name
        elif isinstance(node, Function):
            known = {**known, **parameters(module, node, owner)}
            for each in ast.walk(node):  # a name for something else
                if isinstance(each, ast.Assign) and len(each.targets) == 1 and isinstance(each.targets[0], ast.Name):
                    known[each.targets[0].id] = made(module, each.value, known)
        for asked, name in named(node):
            if is_private(name):
                is_own = ast.unparse(asked) in ("self", "cls", "super()")
                yield asked.lineno, name, owner if is_own else made(module, asked, known), is_own
        for child in ast.iter_child_nodes(node):
            yield from walk(child, known, owner)

    yield from walk(tree_of(ALL[module]), {}, None)


def private_names_of(module: str) -> set[str]:
    """All that the file itself makes: functions, variables, attributes."""
    found = {name for kind in classes_of(module) for name in attributes_of((module, kind))}
    for node in ast.walk(tree_of(ALL[module])):
        if isinstance(node, Function | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return set(filter(is_private, found))


@cache
def names_of_wings() -> dict[str, set[str]]:
    own: dict[str, set[str]] = {}
    for module in ALL:
        own.setdefault(wing(module), set()).update(private_names_of(module))
    return own


def borrowed_by(module: str) -> list[str]:
    own = names_of_wings()
    here = wing(module)
    visible = {wing(other) for other in ALL if other.partition(".")[0] in ("pymysqlpool", module.partition(".")[0])}
    foreign = set().union(*(own[other] for other in visible)) - own[here]
    found = []
    for line, name, kind, is_own in uses(module):
        makers = [above for above in (line_of_bases(kind) if kind else ()) if name in attributes_of(above)]
        if makers and not is_own and all(wing(above[0]) != here for above in makers):
            found.append(f"{module}:{line}: {name} of {'.'.join(makers[0])}")
        elif not makers and name in foreign:
            found.append(f"{module}:{line}: {name}")
    return found


def test_no_wing_uses_private_names_of_another() -> None:
    found = [use for module in ALL for use in borrowed_by(module)]
    assert not found, "\n".join(found)


def private_imports(module: str) -> list[str]:
    """The private names, other than modules, that the file imports from another of the three packages' files."""
    names = {f"{base}.{name}" for base, name in imported_in(module).values() if base in ALL and is_private(name)}
    return sorted(names - ALL.keys())


def test_no_file_imports_a_private_name_of_another() -> None:
    found = {module: names for module in ALL if (names := private_imports(module))}
    assert not found


def test_a_private_import_is_found_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "added.py"
    path.write_text("from ..pool import _ledger as ledger, ConnectionPool\nfrom .. import _pool\n")
    monkeypatch.setitem(ALL, "pymysqlpool._web.added", path)
    assert private_imports("pymysqlpool._web.added") == ["pymysqlpool.pool._ledger"]


IMPORT = "from pymysqlpool.pool import ConnectionPool\n"
FOOLS = (
    "def look(pool):\n    return pool._ledger",
    "def look(pool):\n    return getattr(pool, '_ledger')",
    "def look(pool):\n    return vars(pool)['_ledger']",
    # `_lock` is a name of this wing too, for something else.
    f"{IMPORT}def look(pool: ConnectionPool):\n    return pool._lock",
    f"{IMPORT}def look(pool: ConnectionPool):\n    other = pool\n    return other._lock",
    f"{IMPORT}def look(pool: 'ConnectionPool | None'):\n    return getattr(pool, '_lock')",
    f"{IMPORT}def look(pool: ConnectionPool):\n    return pool.__dict__['_lock']",
    f"{IMPORT}class Own:\n    pool: ConnectionPool\n    def look(self):\n        return self.pool._lock",
    f"{IMPORT}class Own:\n def __init__(self, it: ConnectionPool):\n  self.it = it\n def look(self):\n  self.it._lock",
    f"{IMPORT}def change(pool: ConnectionPool):\n    pool.__dict__ = {{'_lock': 1}}",
    "from pymysqlpool import pool as rooms\ndef look():\n    return rooms.ConnectionPool()._lock",
)


@pytest.mark.parametrize("number", range(len(FOOLS)))
def test_the_test_sees_through(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_lock" in names_of_wings()["_web"]
    path = tmp_path / f"added_{number}.py"
    path.write_text(FOOLS[number])
    module = f"pymysqlpool._web.added_{number}"
    monkeypatch.setitem(ALL, module, path)
    assert len(borrowed_by(module)) == 1, FOOLS[number]
