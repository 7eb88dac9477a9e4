"""A throwaway MariaDB or MySQL server: yours alone, up in about a second, gone without a trace.

    with DevServer(database="test") as server:
        connection = pymysql.connect(**server.connect_args)

Owns: finding a server program, a private folder, a free port, the server's life and its end.
Never: touches a server it did not start, listens beyond 127.0.0.1, needs root, imports more than the
standard library.

Invariants:
- No other user of this machine gets in, or at files through the server: root has a random password, the unix socket
  lies in a folder that only we may enter, there is no other account, and the server's FILE statements see one empty
  folder (MySQL: none).
- The server never outlives us, `kill -9` of this process included. A small watcher process is the server's
  parent and holds a pipe to us; when the pipe closes, or the watcher gets a new parent, it kills the server
  and removes the folder (which stays if we die between a `kill()` and the next `start()`). The kernel's
  PR_SET_PDEATHSIG would be shorter, but it fires when the *thread* that forked ends, cannot remove a folder,
  and exists on Linux only.
- Ctrl-C in the terminal does not reach the server (it has its own session): our code ends it, in order.
- Commits survive `kill()`: the log is written at each commit, only never flushed to the disk itself.
- A forked child that inherits a DevServer cannot end it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["DevServer", "DevServerError", "find_server"]

ENV_BINARY = "PYMYSQLPOOL_SERVER"
HOST = "127.0.0.1"
STOP_TIMEOUT = 15.0  # seconds a server gets to end by itself before SIGKILL
SOCKET_PATH_MAX = 100  # bytes; the kernel's limit is 108 on Linux, 104 on macOS
FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin")
SYSTEM_PREFIXES = ("/usr", "/usr/local", "/")
BOOTSTRAP_SQL = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
# The caller's options which the data folder, too, must be created with.
INIT_OPTIONS = ("--basedir", "--lc-messages-dir", "--plugin-dir", "--innodb-page-size", "--lower-case-table")


class DevServerError(RuntimeError):
    """No server program was found, or the server did not start. The message says what to do."""


def find_server(binary: str | os.PathLike[str] | None = None) -> Path:
    """The server program to run: `binary`, else $PYMYSQLPOOL_SERVER, else an installed or a cached one."""
    for origin, wanted in (("binary", binary), (f"${ENV_BINARY}", os.environ.get(ENV_BINARY))):
        if wanted:
            found = shutil.which(os.fspath(wanted))
            if not found:
                raise DevServerError(f"{origin} names {os.fspath(wanted)!r}, which is no executable file")
            return Path(found).absolute()
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *FOLDERS])
    for name in ("mariadbd", "mysqld"):
        if found := shutil.which(name, path=path):
            return Path(found).absolute()
    cache_root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(cache_root, "pymysqlpool", "server")
    for cached in sorted(cache.glob("*/usr/sbin/mariadbd"), reverse=True):
        if os.access(cached, os.X_OK):
            return cached
    raise DevServerError(
        f"no MariaDB or MySQL server found. Searched: ${ENV_BINARY} (not set), mariadbd and mysqld on PATH "
        f"and in {', '.join(FOLDERS)}, and {cache}. To get one: `apt-get install mariadb-server-core` "
        "(Debian, Ubuntu), `dnf install mariadb-server` (Fedora), `brew install mariadb` (macOS). If "
        "none of these is possible, `pip install pylibseekdb` has an embedded server that PyMySQL can use "
        "(but DevServer cannot)."
    )


class DevServer:
    """One private server, from `start()` (or `with`) to `stop()`, which removes all its data.

    database: created at the start, and part of `connect_args`; None for none.
    binary: the server program, or a shell script that `exec`s it; see `find_server` for the default.
    options: more of the server's own command line options, such as `["--wait-timeout=2"]`; the last one wins.
    start_timeout: seconds that a start may take, creating the data included.

    Raises DevServerError if there is no program to run. Methods may be called from any thread.
    """

    def __init__(
        self,
        *,
        database: str | None = "test",
        binary: str | os.PathLike[str] | None = None,
        options: Sequence[str] = (),
        start_timeout: float = 60.0,
    ) -> None:
        self.database = database
        self.binary: Path = find_server(binary)
        self.options: tuple[str, ...] = tuple(options)
        self.start_timeout = start_timeout
        self.host = HOST
        self._base = self.binary.resolve().parent.parent
        for option in self.options:
            if option.startswith("--basedir="):
                self._base = Path(option.partition("=")[2])
        self.flavor: str
        self.version: str
        self.flavor, self.version = self._ask_version()
        self._lock = threading.RLock()  # held while the server is started or ended
        self._owner = os.getpid()
        self._password = f"p{secrets.token_hex(8)}"  # no number where text is read as JSON
        self._folder: Path | None = None  # None: stopped; guarded by _lock, as are the next four
        self._port = 0  # 0: not chosen yet
        self._watcher: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._cleanup: weakref.finalize[Any, DevServer] | None = None

    @property
    def state(self) -> str:
        """`stopped` (no process, no data), `running`, or `down` (data, but no process: killed or crashed)."""
        if self._folder is None:
            return "stopped"
        if self._owner != os.getpid():  # a forked child: the watcher is not ours to ask
            return "running" if _greets(self.unix_socket) else "down"
        return "running" if self._watcher is not None and self._watcher.poll() is None else "down"

    @property
    def folder(self) -> Path:
        """Everything the server writes is in here; exists from `start()` to `stop()`."""
        if self._folder is None:
            raise DevServerError(f"{self!r}: call start() first")
        return self._folder

    @property
    def datadir(self) -> Path:
        """The folder of the server's data."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The server's error log."""
        return self.folder / "error.log"

    @property
    def unix_socket(self) -> str:
        """The path of the server's unix socket."""
        return str(self.folder / "s.sock")

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same until `stop()`."""
        return self._port if self._folder is not None else 0

    @property
    def pid(self) -> int | None:
        """The server's process id; None unless it is running."""
        return self._pid if self.state == "running" else None

    @property
    def connect_args(self) -> dict[str, Any]:
        """Arguments for `pymysql.connect()` over TCP."""
        return {"host": self.host, "port": self.port, **self._login}

    @property
    def socket_args(self) -> dict[str, Any]:
        """Arguments for `pymysql.connect()` over the unix socket."""
        return {"unix_socket": self.unix_socket, **self._login}

    @property
    def _login(self) -> dict[str, Any]:
        return {"user": "root", "password": self._password} | ({"database": self.database} if self.database else {})

    def start(self) -> None:
        """Start and wait until it answers; no effect if it runs. After `kill()`: the same data and port.

        Raises DevServerError with the end of the server's log; nothing is left behind then.
        """
        self._refuse_in_fork()
        with self._lock:
            if self.state == "running":
                return
            try:
                deadline = time.monotonic() + self.start_timeout
                if self._folder is None:
                    self._create(deadline)
                self._launch(deadline)
            except BaseException:
                self._remove_all(signal.SIGKILL)
                raise

    def stop(self) -> None:
        """End the server (SIGTERM, SIGKILL after 15 seconds) and remove its data. May be called again."""
        if self._owner == os.getpid():
            with self._lock:
                self._remove_all(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would: SIGKILL. Data and port stay for the next `start()`."""
        self._refuse_in_fork()
        with self._lock:
            self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End the server in order and start it again with the same data and port."""
        self._refuse_in_fork()
        with self._lock:
            self._end(signal.SIGTERM)
            self.start()

    def __enter__(self) -> DevServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = f" {self.host}:{self._port} pid={self.pid} folder={self._folder}" if self._folder else ""
        return f"<DevServer {self.version} {self.state}{where}>"

    def _refuse_in_fork(self) -> None:
        if self._owner != os.getpid():
            raise DevServerError(f"{self!r} belongs to process {self._owner}, of which this one is a fork")

    # -- the program and its command line ----------------------------------------------------------------

    def _ask_version(self) -> tuple[str, str]:
        command = [str(self.binary), "--no-defaults", "--version"]
        try:
            said = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DevServerError(f"{self.binary} cannot be run: {error}") from error
        match = re.search(r"Ver\s+(\d+\.\d+\.\d+)(\S*)", said.stdout)
        if not match:
            answer = (said.stdout + said.stderr).strip()[-500:]
            raise DevServerError(f"{self.binary} is no MariaDB or MySQL server; --version said: {answer}")
        flavor = "mariadb" if "mariadb" in match[2].lower() else "mysql"
        return flavor, f"{'MariaDB' if flavor == 'mariadb' else 'MySQL'} {match[1]}"

    def _environment(self) -> dict[str, str]:
        """Ours, with the libraries that lie beside a server in an unpacked tree.

        Not those of a tree with a C library of its own: that needs its own loader too, so a script as binary.
        """
        environment = dict(os.environ)
        if str(self._base) not in SYSTEM_PREFIXES:
            near = [*self._base.glob("lib/*-linux-gnu"), *self._base.parent.glob("lib/*-linux-gnu")]
            if near and not any((folder / "libc.so.6").exists() for folder in near):
                paths = [*map(str, near), environment.get("LD_LIBRARY_PATH", "")]
                environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
        return environment

    def _share(self) -> Path | None:
        """The server's folder of messages, character sets and system tables; None: let it use its own."""
        names = ("mariadb", "mysql") if self.flavor == "mariadb" else ("mysql",)
        candidates = [self._base / "share" / name for name in names] + [self._base / "share"]
        return next((share for share in candidates if (share / "charsets").is_dir()), None)

    def _command(self, *more: str) -> list[str]:
        command = [str(self.binary), "--no-defaults"]  # which must come first
        if str(self._base) not in SYSTEM_PREFIXES and (share := self._share()):
            command += [f"--basedir={self._base}", f"--character-sets-dir={share / 'charsets'}"]
            command += [f"--lc-messages-dir={share}"]
            command += [f"--plugin-dir={plugins}" for plugins in self._base.glob("lib/mysql/plugin")]
        command += [f"--datadir={self.datadir}", f"--tmpdir={self.folder}"]
        command += ["--innodb-buffer-pool-size=32M", "--loose-innodb-flush-method=nosync"]
        command += ["--innodb-flush-log-at-trx-commit=2"]  # 0 would lose a second of commits in a kill()
        log_size = "innodb-log-file-size" if self.flavor == "mariadb" else "innodb-redo-log-capacity"
        command += [f"--loose-{log_size}=8M"]
        if os.geteuid() == 0:
            command += ["--user=root"]
        return [*command, *more]

    def _server_command(self) -> list[str]:
        command = self._command(f"--socket={self.unix_socket}", f"--port={self._port}", f"--bind-address={HOST}")
        command += [f"--pid-file={self.folder / 'pid'}", f"--init-file={self.folder / 'init.sql'}"]
        command += ["--skip-name-resolve", "--performance-schema=OFF", "--max-connections=300"]
        command += ["--character-set-server=utf8mb4"]
        if self.flavor == "mysql":
            command += ["--loose-mysqlx=OFF", "--secure-file-priv=NULL", "--skip-log-bin"]
        else:
            command += [f"--secure-file-priv={self.folder / 'files'}"]
        return [*command, *self.options]

    # -- its life ----------------------------------------------------------------------------------------

    def _create(self, deadline: float) -> None:
        """Make the folder and the data in it."""
        folder = Path(tempfile.mkdtemp(prefix="pymysqlpool-"))
        if len(os.fsencode(folder / "s.sock")) > SOCKET_PATH_MAX:
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix="pymysqlpool-", dir="/tmp"))
        self._folder = folder
        self._cleanup = weakref.finalize(self, _remove, folder, os.getpid())
        (folder / "files").mkdir()
        init = []
        for account in ("'root'@'127.0.0.1'", "'root'@'localhost'"):
            init += [f"CREATE USER IF NOT EXISTS {account};", f"ALTER USER {account} IDENTIFIED BY '{self._password}';"]
            init += [f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;"]
        if self.database:
            init += [f"CREATE DATABASE IF NOT EXISTS `{self.database.replace('`', '``')}`;"]
        (folder / "init.sql").write_text("\n".join(init) + "\n", encoding="utf-8")
        early = [option for option in self.options if option.replace("_", "-").startswith(INIT_OPTIONS)]
        share = self._share()
        bootstrap = folder / "bootstrap.sql"
        if self.flavor == "mysql":
            command = self._command("--initialize-insecure", *early)
        elif share and all((share / name).is_file() for name in BOOTSTRAP_SQL):
            tables = [(share / name).read_text(encoding="utf-8") for name in BOOTSTRAP_SQL]
            settings = "USE mysql;\nSET @auth_root_socket=NULL, @current_hostname='localhost';"
            bootstrap.write_text("\n".join([settings, *tables]), encoding="utf-8")
            (folder / "data" / "mysql").mkdir(parents=True)
            command = self._command("--bootstrap", *early)
        else:
            command = self._install_db()
        self._spawn(command, stdin=bootstrap if bootstrap.exists() else os.devnull)
        assert self._watcher is not None
        try:
            code = self._watcher.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._failed(command, f"took over {self.start_timeout:g} seconds to create its data") from None
        if code:
            raise self._failed(command, f"could not create its data (exit status {code})")

    def _install_db(self) -> list[str]:
        near = [str(self._base / folder) for folder in ("bin", "scripts")]
        path = os.pathsep.join([*near, os.environ.get("PATH", os.defpath)])
        tool = shutil.which("mariadb-install-db", path=path) or shutil.which("mysql_install_db", path=path)
        if not tool:
            raise DevServerError(f"{self.binary}: neither its system tables' SQL nor mariadb-install-db was found")
        _, *options = self._command("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        return [tool, *options]

    def _launch(self, deadline: float) -> None:
        """Run the server until it answers; try several ports unless the port was chosen before."""
        for port in [self._port] if self._port else [_free_port() for _ in range(5)]:
            self._port = port
            logged = self.log.stat().st_size
            command = self._server_command()
            self._spawn(command)
            while self.state == "running":
                if _greets(self.unix_socket):
                    return
                if time.monotonic() > deadline:
                    raise self._failed(command, f"did not answer in {self.start_timeout:g} seconds")
                time.sleep(0.01)
            if not re.search(rb"TCP/IP port|in use", self.log.read_bytes()[logged:]):
                break
        raise self._failed(command, "ended while starting")

    def _spawn(self, command: Sequence[str], stdin: Path | str = os.devnull) -> None:
        self._end(signal.SIGKILL)
        watcher = [sys.executable, "-I", "-S", __file__, "--watch", str(os.getpid())]
        with self.log.open("ab") as log:
            self._watcher = subprocess.Popen(
                [*watcher, str(self.folder), str(stdin), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        assert self._watcher.stdout is not None
        self._pid = int(self._watcher.stdout.readline() or 0) or None

    def _end(self, signal_number: int) -> None:
        """Have the watcher signal the server, and see both gone. The data stay."""
        watcher, self._watcher, self._pid = self._watcher, None, None
        if watcher is None:
            return
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        try:
            for order, timeout in ((signal_number, STOP_TIMEOUT), (signal.SIGKILL, STOP_TIMEOUT)):
                with contextlib.suppress(OSError):
                    os.write(watcher.stdin.fileno(), bytes([order]))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    watcher.wait(timeout)
                    return
        finally:  # an interrupted wait closes the pipe all the same, which ends the server
            watcher.stdin.close()
            watcher.stdout.close()

    def _remove_all(self, signal_number: int) -> None:
        self._end(signal_number)
        if self._cleanup is not None:
            self._cleanup()
        self._folder, self._cleanup, self._port = None, None, 0

    def _failed(self, command: Sequence[str], what: str) -> DevServerError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        tail = "\n  ".join(lines or ["(empty)"])
        return DevServerError(f"{self.version} {what}. The end of its log:\n  {tail}\nIt ran as: {shlex.join(command)}")


def _free_port() -> int:
    """Below 32768, where no outgoing connection gets its port from."""
    for port in random.sample(range(20000, 30000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise DevServerError("no free port found between 20000 and 29999")


def _greets(path: str) -> bool:
    """Does a server on this socket open the conversation (protocol version 10) instead of refusing it?"""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(path)
        return probe.recv(5)[4:] == b"\n"
    return False


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(parent: int, folder: str, stdin: str, command: Sequence[str]) -> int:
    """The watcher process: run the command; a byte from the pipe is a signal to send, its end is SIGKILL."""
    with open(stdin, "rb") as source:
        server = subprocess.Popen(command, stdin=source, stdout=2, stderr=2, start_new_session=True)
    alone = threading.Event()

    def tell(signal_number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal_number)

    def abandon(*_: object) -> None:
        alone.set()
        tell(signal.SIGKILL)

    def listen() -> None:
        while os.getppid() == parent:  # a forked sibling may hold the pipe open
            if select.select([0], [], [], 1.0)[0]:
                order = os.read(0, 1)
                if not order:
                    break
                tell(order[0])
        abandon()

    signal.signal(signal.SIGTERM, abandon)
    threading.Thread(target=listen, daemon=True).start()
    os.write(1, b"%d\n" % server.pid)
    code = server.wait()
    tell(signal.SIGKILL)  # what a script without `exec` left behind
    if alone.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _main(arguments: Sequence[str] | None = None) -> int:
    """Run a server until Ctrl-C or SIGTERM, and print how to connect to it."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m pymysqlpool.devserver", description=_main.__doc__)
    parser.add_argument("--database", default="test", metavar="NAME", help="created at the start (default: test)")
    parser.add_argument("--binary", metavar="PATH", help="the server program (default: searched for)")
    parser.add_argument("--option", action="append", default=[], help="as in --option=--wait-timeout=5; repeatable")
    given = parser.parse_args(arguments)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        with DevServer(database=given.database, binary=given.binary, options=given.option) as server:
            shell = f"-h {server.host} -P {server.port} -u root -p{server.connect_args['password']} {given.database}"
            login = ", ".join(f"{name}={value!r}" for name, value in server.connect_args.items())
            print(f"{server.version} ({server.binary}), process {server.pid}, started in {server.folder}")
            print(f"  host    {server.host}\n  port    {server.port}\n  socket  {server.unix_socket}")
            print(f"  shell   mysql --protocol=tcp {shell}")
            print(f"  Python  pymysql.connect({login})")
            print("Ctrl-C ends it and removes its data.", flush=True)
            assert server._watcher is not None
            server._watcher.wait()
            raise server._failed(server._server_command(), "ended by itself")
    except KeyboardInterrupt:
        return 0
    except DevServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        os._exit(_watch(int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:]))
    sys.exit(_main())
