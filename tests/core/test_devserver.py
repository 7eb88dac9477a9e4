"""DevServer against the real thing: the tests start servers and look for what they leave behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from pymysqlpool import devserver
from pymysqlpool.devserver import DevServer, DevServerError
from tests.support import wait_until

DEADLINE = 30.0  # seconds for anything that another process does
PYTHON = [sys.executable, "-W", "error"]


def query(arguments: dict[str, Any], *statements: str) -> Any:
    """The first column of the last statement's first row."""
    connection = pymysql.connect(**arguments, ssl_disabled=True, autocommit=True)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            row = cursor.fetchone()
            return row[0] if row else None
    finally:
        connection.close()


def process_exists(pid: int) -> bool:
    """A zombie that another process has to collect has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes started by a test find the package without its being installed."""
    monkeypatch.chdir(Path(devserver.__file__).parent.parent)


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    """One server for the tests that only look at it."""
    with DevServer(database="demo`1") as running:
        yield running


def test_a_started_server_answers_over_tcp_with_its_database_selected(server: DevServer) -> None:
    assert server.connect_args["host"] == "127.0.0.1"
    assert server.connect_args["port"] == server.port < 32768
    assert query(server.connect_args, "SELECT DATABASE()") == "demo`1"


def test_a_started_server_answers_over_its_socket_with_its_database_selected(server: DevServer) -> None:
    assert len(os.fsencode(server.unix_socket)) < 104
    assert query(server.socket_args, "SELECT DATABASE()") == "demo`1"


def test_flavor_version_and_pid_are_the_servers_own(server: DevServer) -> None:
    said = query(server.connect_args, "SELECT VERSION()")
    assert server.version.split()[1] in said
    assert (server.flavor == "mariadb") == ("MariaDB" in said)
    assert server.pid == int((server.folder / "pid").read_text())


def test_the_repr_says_version_state_address_and_process(server: DevServer) -> None:
    assert f"{server.version} running 127.0.0.1:{server.port} pid={server.pid}" in repr(server)


def test_the_server_listens_on_the_loopback_address_only(server: DevServer) -> None:
    assert query(server.connect_args, "SELECT @@bind_address") == "127.0.0.1"


def test_text_is_utf8mb4_by_default(server: DevServer) -> None:
    assert query(server.connect_args, "SELECT @@character_set_database") == "utf8mb4"


def test_start_of_a_running_server_changes_nothing(server: DevServer) -> None:
    before = repr(server)
    server.start()
    assert repr(server) == before


def test_a_forked_child_can_neither_end_nor_restart_the_server(server: DevServer) -> None:
    child = (
        "import os, sys; from pymysqlpool.devserver import DevServer, DevServerError\n"
        "with DevServer() as server:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        server.stop()\n"
        "        try: server.restart()\n"
        "        except DevServerError: os._exit(0 if server.state == 'running' else 2)\n"
        "        os._exit(1)\n"
        "    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "    sys.exit(status or server.state != 'running')\n"
    )
    assert subprocess.run([*PYTHON, "-c", child], timeout=DEADLINE).returncode == 0


def test_two_servers_run_side_by_side(server: DevServer) -> None:
    with DevServer(database=None) as other:
        assert other.port != server.port
        assert "database" not in other.connect_args
        assert query(other.connect_args, "SELECT DATABASE()") is None


def test_options_reach_the_server_and_the_last_one_wins() -> None:
    with DevServer(options=["--wait-timeout=77", "--max-connections=12"]) as server:
        assert query(server.connect_args, "SELECT @@global.wait_timeout") == 77
        assert query(server.connect_args, "SELECT @@max_connections") == 12


def test_restart_keeps_data_and_port_and_kill_then_start_loses_no_commit() -> None:
    with DevServer() as server:
        port, first = server.port, server.pid
        query(server.connect_args, "CREATE TABLE t (n INT) ENGINE=InnoDB", "INSERT INTO t VALUES (1)")
        server.restart()
        assert (server.port, server.pid != first) == (port, True)
        query(server.connect_args, "INSERT INTO t VALUES (2)")
        second = server.pid
        assert second is not None
        server.kill()
        assert not process_exists(second)
        assert (server.state, server.pid) == ("down", None)
        server.kill()
        server.start()
        assert server.port == port
        assert query(server.connect_args, "SELECT SUM(n) FROM t") == 3


def test_nothing_is_left_after_the_with_block_and_stop_may_be_called_again() -> None:
    with DevServer() as server:
        pid, folder = server.pid, server.folder
        assert pid is not None
    assert not process_exists(pid)
    assert not folder.exists()
    server.stop()
    assert server.state == "stopped"
    with pytest.raises(DevServerError, match="call start"):
        _ = server.unix_socket


def test_nothing_is_left_after_an_exception_in_the_with_block() -> None:
    seen: list[Any] = []

    def fail() -> None:
        with DevServer() as server:
            seen.extend([server.pid, server.folder])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    pid, folder = seen
    assert not process_exists(pid)
    assert not folder.exists()


def test_a_stopped_server_starts_again_empty() -> None:
    server = DevServer()
    with server:
        query(server.connect_args, "CREATE TABLE t (n INT)")
    with server:
        assert query(server.connect_args, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name='t'") == 0


@pytest.mark.parametrize("also", ["", "os.fork() or sys.stdin.read()\n"], ids=["alone", "with-a-forked-child"])
def test_nothing_is_left_after_sigkill_of_the_python_process(also: str) -> None:
    script = (
        "import os, sys; from pymysqlpool.devserver import DevServer\n"
        "server = DevServer(); server.start()\n"
        f"{also}print(server.pid, server.folder, flush=True); sys.stdin.read()"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # it lives as long as we do, or less
    with subprocess.Popen([*PYTHON, "-c", script], **pipes, text=True, start_new_session=True) as us:
        assert us.stdout is not None
        pid, folder = us.stdout.readline().split()
        assert process_exists(int(pid))
        us.kill()
        wait_until(lambda: not process_exists(int(pid)), "the server has ended", DEADLINE)
        wait_until(lambda: not Path(folder).exists(), "its folder is gone", DEADLINE)
        if also:
            os.killpg(us.pid, signal.SIGKILL)


def test_a_server_started_in_a_short_lived_thread_stays() -> None:
    script = (
        "import threading; from pymysqlpool.devserver import DevServer\n"
        "server = DevServer()\n"
        "thread = threading.Thread(target=server.start); thread.start(); thread.join()\n"
        "server.restart(); print(server.state); server.stop()"
    )
    done = subprocess.run([*PYTHON, "-c", script], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.stdout, done.stderr) == ("running\n", "")


def test_an_unknown_binary_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DevServerError, match=r"binary names .*nowhere.* no executable"):
        DevServer(binary=tmp_path / "nowhere")
    with pytest.raises(DevServerError, match="no MariaDB or MySQL server"):
        DevServer(binary=sys.executable)
    monkeypatch.setenv("PYMYSQLPOOL_SERVER", str(tmp_path / "elsewhere"))
    with pytest.raises(DevServerError, match=r"PYMYSQLPOOL_SERVER names .*elsewhere"):
        DevServer()


def test_without_any_server_the_error_says_what_was_searched_and_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devserver, "FOLDERS", ())
    monkeypatch.delenv("PYMYSQLPOOL_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DevServerError, match="apt-get install mariadb-server-core") as raised:
        DevServer()
    assert str(tmp_path / "pymysqlpool" / "server") in str(raised.value)


def test_a_failed_start_shows_the_log_and_leaves_nothing() -> None:
    server = DevServer(options=["--no-such-option=1"])
    with pytest.raises(DevServerError, match=r"(?s)unknown variable.*It ran as: .*--no-such-option=1"):
        server.start()
    assert server.state == "stopped"


def test_a_start_that_takes_too_long_is_given_up() -> None:
    server = DevServer(start_timeout=0.01)
    with pytest.raises(DevServerError, match=r"0\.01 seconds"):
        server.start()
    assert server.state == "stopped"


def test_a_shell_script_that_execs_the_server_will_do(tmp_path: Path) -> None:
    real = devserver.find_server()
    script = tmp_path / "wrapped"
    script.write_text(f'#!/bin/sh\nexec "{real}" "$@"\n')
    script.chmod(0o755)
    base = real.resolve().parent.parent
    with DevServer(binary=script, options=[f"--basedir={base}"]) as server:
        assert query(server.connect_args, "SELECT 1") == 1
        assert server.pid == int((server.folder / "pid").read_text())


def test_a_long_temporary_folder_does_not_break_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with DevServer() as server:
        assert query(server.socket_args, "SELECT 1") == 1


def test_without_sql_files_the_data_come_from_the_install_script(
    monkeypatch: pytest.MonkeyPatch, server: DevServer
) -> None:
    if not (server.flavor == "mariadb" and shutil.which("my_print_defaults")):
        pytest.skip("mariadb-install-db needs my_print_defaults, which only the client packages bring")
    monkeypatch.setattr(devserver, "BOOTSTRAP_SQL", ("no_such_file.sql",))
    with DevServer() as other:
        assert query(other.connect_args, "SELECT CURRENT_USER()") == "root@127.0.0.1"


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are the unprivileged ones already")
def test_an_unprivileged_user_can_run_one() -> None:
    home = Path(subprocess.check_output(["mktemp", "-d", "/tmp/nobody-XXXXXX"], text=True).strip())
    try:
        shutil.copy(devserver.__file__, home / "devserver.py")
        os.chown(home, 65534, 65534)
        script = (
            "from devserver import DevServer, _greets\n"
            "with DevServer() as server: print(_greets(server.unix_socket), server.folder.stat().st_uid)"
        )
        python = sys.executable if os.access(sys.executable, os.X_OK) and others_may_read(sys.executable) else None
        done = subprocess.run(
            [python or "/usr/bin/python3", "-c", script],
            user=65534,
            group=65534,
            extra_groups=[],
            cwd=home,
            env={"HOME": str(home), "TMPDIR": str(home), "PATH": os.defpath},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert (done.stdout, done.stderr) == ("True 65534\n", "")
        assert not list(home.glob("pymysqlpool-*"))
    finally:
        shutil.rmtree(home)


def others_may_read(path: str) -> bool:
    real = Path(path).resolve()
    return all(part.stat().st_mode & 0o005 for part in [real, *real.parents, *Path(path).parents])


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_command_line_says_how_to_connect_and_ends_with_0(ending: signal.Signals) -> None:
    command = [*PYTHON, "-m", "pymysqlpool.devserver", "--database", "shop", "--option=--wait-timeout=5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as us:
        assert us.stdout is not None
        said = ""
        for line in us.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        folder = Path(said.splitlines()[0].rpartition(" ")[2])
        assert folder.is_dir()
        us.send_signal(ending)
        rest, errors = us.communicate(timeout=DEADLINE)
    assert (us.returncode, rest, errors) == (0, "", "")
    assert not folder.exists()
    assert "mysql --protocol=tcp -h 127.0.0.1 -P " in said
    assert "pymysql.connect(host='127.0.0.1', port=" in said
    assert "database='shop'" in said


def test_the_command_line_reports_a_server_it_cannot_run(tmp_path: Path) -> None:
    command = [*PYTHON, "-m", "pymysqlpool.devserver", "--binary", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")


def test_no_other_user_gets_in_and_no_file_gets_out() -> None:
    with DevServer() as server:
        accounts = query(server.connect_args, "select group_concat(distinct user) from mysql.user").split(",")
        for user in (*accounts, "", "nobody"):
            for place in ({"host": server.host, "port": server.port}, {"unix_socket": server.unix_socket}):
                with pytest.raises(pymysql.err.OperationalError):
                    pymysql.connect(**place, user=user, password="")
        assert server.folder.stat().st_mode & 0o077 == 0
        secret = server.folder / "secret"
        secret.write_text("hello")
        secret.chmod(0o644)
        assert query(server.connect_args, f"select load_file('{secret}')") is None
        with pytest.raises(pymysql.err.OperationalError, match="secure"):
            query(server.connect_args, f"select 1 into outfile '{server.folder / 'written'}'")
        assert server.connect_args["password"] not in repr(server)
        assert server.connect_args["password"] != DevServer().connect_args["password"]
