"""What a user installs: the built wheel and sdist, their metadata, and the public names that they promise to keep."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from pymysqlpool import __version__
from pymysqlpool.devserver import DevServer
from tests import public_api
from tests.documentation import Page, prepare_shop, with_port

ROOT = Path(__file__).parent.parent
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def test_the_public_names_are_those_that_are_promised() -> None:
    """After a change on purpose run `python -m tests.public_api`; docs/policy.md says how a name may go."""
    promised = set(public_api.FILE.read_text().split())
    now = set(public_api.names())
    assert not promised - now, "gone"
    assert not now - promised, "new; run `python -m tests.public_api`"


@pytest.mark.timeout(300)
def test_the_package_page_has_whole_addresses_and_the_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(name).decode()
    assert f"\nVersion: {__version__}\n" in metadata
    head, _, page = metadata.partition("\n\n")
    assert head.count("Project-URL:") == 4
    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", page) if not link.startswith(("https://", "#"))] == []
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", str(wheel)], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_sdist_has_what_the_repository_has(sdist: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no repository")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    assert {name for name in listed if name and not (sdist / name).is_file()} == set()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_sdist_passes_its_own_tests(sdist: Path) -> None:
    some = [
        "tests/core/test_pool.py",
        "tests/core/test_ledger.py",
        "tests/core/test_promises.py",
        "tests/test_invariants.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *some],
        cwd=sdist,
        env={**os.environ, "PYTHONPATH": str(sdist)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14", "3.15"])
def test_the_wheel_installs_alone_and_the_first_example_runs(
    wheel: Path, server: DevServer, admin: object, tmp_path: Path, version: str
) -> None:
    found = [path / "bin/python" for path in sorted(PYENV.glob(f"{version}.*")) if (path / "bin/python").exists()]
    python = found[-1] if found else Path(sys.executable)
    if not found and version != "{}.{}".format(*sys.version_info):
        pytest.skip(f"no Python {version} here")
    prepare_shop(admin)
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True, timeout=100)
    alone = tmp_path / "venv/bin/python"
    subprocess.run([alone, "-m", "pip", "install", "-q", wheel], check=True, capture_output=True, timeout=150)
    script = tmp_path / "example.py"
    script.write_text(with_port(next(Page("README.md").blocks()).code, server.port))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([alone, script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
def test_the_wheel_has_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "pymysqlpool",
        "pymysqlpool_flask",
        "pymysqlpool_django",
    }
    for package in ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django"):
        assert f"{package}/py.typed" in names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".c"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_files_for_the_forge_name_what_there_is() -> None:
    """They have run nowhere yet: at least each script, test and version in them is one of ours."""
    yaml = pytest.importorskip("yaml")
    files = sorted((ROOT / ".github").rglob("*.yml"))
    texts = {file.name: file.read_text() for file in files}
    assert {"check.yml", "release.yml", "bug.yml", "feature.yml"} <= texts.keys()
    for name, text in texts.items():
        yaml.safe_load(text)
        for path in re.findall(r"\b(?:scripts|tests)/[\w/.-]*\w", text):
            assert (ROOT / path).exists(), f"{name}: {path}"
    check = yaml.safe_load(texts["check.yml"])["jobs"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    pythons = [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert check["python"]["strategy"]["matrix"]["python"] == pythons
    djangos = [line.rpartition(" ")[2] for line in classifiers if re.search(r"Django :: \d", line)]
    wanted = [each["package"] for each in check["frameworks"]["strategy"]["matrix"]["include"]]
    assert [each for each in wanted if "Django" in each] == [f"Django~={version}.0" for version in djangos]


NAMESAKES = ["pymysql_pool-0.3.7", "pymysql_pooling-1.0.6", "pymysqlpool_dd-0.1.4"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("namesake", NAMESAKES)
def test_the_first_pool_warns_of_a_package_that_has_the_same_import_name(
    wheel: Path, tmp_path: Path, namesake: str
) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    script = "import warnings; warnings.simplefilter('error'); import pymysqlpool; print(pymysqlpool.__file__)"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {script}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )

    make = f"{script}; pymysqlpool.ConnectionPool()"
    alone = run(make)
    assert alone.returncode == 0, alone.stderr
    assert str(target) in alone.stdout
    (target / "PyMysqlPool-1.0.9.dist-info").mkdir()  # another spelling, so another name
    (target / f"{namesake}.dist-info").mkdir()
    assert run(script).returncode == 0, "an import asks nothing"
    both = run(make)
    assert both.returncode != 0
    name = namesake.replace("_", "-").replace("-1", " 1").replace("-0", " 0")
    assert f"{name} is installed beside pymysqlpool-web" in both.stderr
    assert f"pip uninstall {name.split()[0]}" in both.stderr
