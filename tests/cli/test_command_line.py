"""`python -m pymysqlpool`, as typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from benchmarks.bench import write_certificate
from pymysqlpool._cli import main
from pymysqlpool.devserver import DevServer


def url(connect_args: dict[str, Any]) -> str:
    user, password = connect_args["user"], connect_args["password"]
    host, port, database = connect_args["host"], connect_args["port"], connect_args["database"]
    return f"mysql://{user}:{password}@{host}:{port}/{database}"


def test_ping_says_what_the_server_is(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["ping", url(connect_args)]) == 0
    assert f"{connect_args['host']}:{connect_args['port']} is " in capsys.readouterr().out


def test_a_server_that_is_not_there_is_an_error_and_no_traceback(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["ping", "mysql://me:S3cret@127.0.0.1:1/x"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: 127.0.0.1:1: ")
    assert "S3cret" not in said


def test_check_names_what_the_server_is_and_what_to_mend(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["check", url(connect_args)]) == 0
    said = capsys.readouterr().out
    for word in ("server", "role", "TLS", "limits", "pool", "mend"):
        assert f"{word} " in said
    assert "a session that was changed is reset in " in said
    assert "enough for " in said


def test_bench_measures_a_borrow_beside_a_plain_connection(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["bench", url(connect_args), "--seconds", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "borrow, SELECT 1, return" in said
    assert said.count(" us") + said.count(" ms") == 4


def test_it_runs_as_a_module_and_takes_the_password_from_the_environment(connect_args: dict[str, Any]) -> None:
    server = ["--host", connect_args["host"], "--port", str(connect_args["port"]), "--user", connect_args["user"]]
    done = subprocess.run(
        [sys.executable, "-m", "pymysqlpool", "ping", *server],
        env={**os.environ, "MYSQL_PWD": connect_args["password"] or ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "required: COMMAND"),
        ("no-such", "invalid choice"),
        ("ping postgresql://db/x", "is no database URL"),
        ("ping mysql://a,b/x", "names 2 hosts"),
        ("ping mysql://me:S3cret@db/x?ssl=1", "behind '?'"),
        ("ping mysql://db:99999/x", "from 1 to 65535"),
        *((f"ping --port {port}", "--port") for port in ("0", "99999", "-1", "abc")),
        *((f"check --timeout {seconds}", "seconds above 0") for seconds in ("0", "-1", "nan", "inf", "1e12", "soon")),
        *((f"bench --seconds {seconds}", "seconds above 0") for seconds in ("0", "-1", "nan")),
        ("drain --timeout nan", "seconds above 0"),
        *((f"ping {option}=", "must not be empty") for option in ("--host", "--user", "--unix-socket", "--ssl-ca")),
        ("check --ssl-ca /no/such.pem", "--ssl-ca '/no/such.pem': No such file"),
        (f"check --ssl-ca {__file__}", "no certificate"),
        ("status --folder=", "must not be empty"),
        ("status --folder /no/such", "/no/such: No such file or directory"),
        ("drain --folder /no/such", "/no/such: No such file or directory"),
        (f"status --folder {__file__}", "Not a directory"),
    ],
)
def test_a_wrong_command_line_says_what_would_be_right(arguments: str, says: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "usage: python -m pymysqlpool" in said
    assert says in said
    assert "S3cret" not in said


def test_a_password_cannot_be_asked_for_without_a_terminal(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal() -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", no_terminal)
    with pytest.raises(SystemExit):
        main(["ping", "--password"])
    assert "set MYSQL_PWD" in capsys.readouterr().err


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pymysqlpool", *arguments]
    hears_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background need not
    with subprocess.Popen(command, text=True, preexec_fn=hears_ctrl_c, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_ends_a_measurement_without_a_traceback(connect_args: dict[str, Any]) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("bench", url(connect_args), "--seconds", "600", **pipes) as bench:
        assert bench.stdout is not None
        assert bench.stdout.read(10), "it says at once what it measures"
        bench.send_signal(signal.SIGINT)
        _, said = bench.communicate(timeout=30)
    assert (bench.returncode, said.strip()) == (130, "")


def test_a_reader_that_closes_the_pipe_is_no_error_to_report(connect_args: dict[str, Any]) -> None:
    read, write = os.pipe()
    os.close(read)
    with started("check", url(connect_args), stdout=write, stderr=subprocess.PIPE) as check:
        os.close(write)
        _, said = check.communicate(timeout=30)
    assert (check.returncode, said) == (1, "")


@pytest.fixture(scope="module")
def tls_only(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a server that refuses logins without TLS, and its certificate."""
    pytest.importorskip("cryptography")
    certificate, key = write_certificate(tmp_path_factory.mktemp("tls"))
    options = [f"--ssl-cert={certificate}", f"--ssl-key={key}", "--require-secure-transport=ON"]
    with DevServer(binary=request.config.getoption("--server"), options=options) as server:
        yield url({**server.connect_args, "database": ""}), str(certificate)


def test_check_tries_each_way_of_tls(tls_only: tuple[str, str], capsys: Any) -> None:
    address, certificate = tls_only
    expected = {
        (): ["refused", "connected", "refused"],
        ("--ssl-ca", certificate): ["refused", "connected", "connected"],
    }
    for arguments, outcomes in expected.items():
        assert main(["check", address, *arguments]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("TLS ")]
        assert [line.split(": ")[1].split()[0] for line in lines] == outcomes
