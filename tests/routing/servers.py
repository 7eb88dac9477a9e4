"""Real groups of servers for tests: a Galera cluster of three nodes, and a primary with two replicas by GTID.

Owns: their start, and the events that befall them. Never: listens beyond 127.0.0.1, copies a node's whole state to
another one (all begin as copies of one, and come back by the events that they missed), so it needs no rsync.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql

from pymysqlpool.devserver import HOST, DevServer, _free_port, _remove
from tests.support import freeze, wait_until

NODES = 3
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pymysqlpool")  # where scripts/lib.sh unpacks
GALERA = ("/usr/lib/galera", "/usr/lib64/galera-4", CACHE / "galera/usr/lib/galera")
APP = {"user": "app", "password": "app", "database": "test", "ssl_disabled": True}  # read_only does not bind root
TABLES = (
    "CREATE TABLE test.written (id INT PRIMARY KEY, server INT)",
    "CREATE TABLE test.visit (place INT AUTO_INCREMENT PRIMARY KEY, id INT, KEY (id))",
)


def provider() -> str | None:
    """Galera's library, where there is one."""
    paths = (os.path.join(folder, "libgalera_smm.so") for folder in GALERA)
    return next(filter(os.path.exists, paths), None)


def ask(server: DevServer, *statements: str) -> list[dict[str, Any]]:
    """The last statement's rows."""
    login = {**server.connect_args, "database": None}
    with (
        pymysql.connect(
            **login, autocommit=True, connect_timeout=2, cursorclass=pymysql.cursors.DictCursor
        ) as connection,
        connection.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def account(server: DevServer) -> None:
    ask(server, "CREATE USER app IDENTIFIED BY 'app'", "GRANT ALL ON test.* TO app")


class Group:
    """Servers that belong together."""

    servers: list[DevServer]

    def hosts(self) -> list[dict[str, Any]]:
        return [{"host": server.host, "port": server.port} for server in self.servers]

    def lost(self, index: int, written: set[int]) -> set[int]:
        """Those of the acknowledged visits that the server does not have."""
        return written - self._visits(index).keys()

    def twice(self, index: int) -> set[int]:
        """The visits that the server has more than once."""
        return {number for number, times in self._visits(index).items() if times > 1}

    def _visits(self, index: int) -> Counter[int]:
        return Counter(row["id"] for row in ask(self.servers[index], "SELECT id FROM test.visit"))

    def freeze(self, index: int) -> None:
        freeze(self.servers[index].pid or 0)

    def thaw(self, index: int) -> None:
        os.kill(self.servers[index].pid or 0, signal.SIGCONT)

    def end(self, index: int) -> None:
        """End it in order; its data stay."""
        self.servers[index]._end(signal.SIGTERM)


# -- Galera ------------------------------------------------------------------------------------------------


def _three_ports() -> int:
    """The first of three that are free: to talk, and for the two ways of a state. Without the second of these a node
    that joins cannot fetch what it missed, and there is no other way here."""
    while True:
        first = _free_port()
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + 3):
                stack.enter_context(socket.socket()).bind((HOST, port))
            return first


# What the server runs to move a state, as the donor and as the one that joins. The events that a node missed go their
# own way (IST); of this only the position is passed on.
TRANSFER = """#!/bin/sh
bypass=
while [ $# -gt 0 ]; do
    case $1 in
    --role) role=$2; shift ;;
    --address) address=$2; shift ;;
    --gtid) gtid=$2; shift ;;
    --bypass) bypass=yes ;;
    esac
    shift
done
file=$(dirname "$0")/$(printf %s "$address" | tr -cd 0-9)
if [ "$role" = joiner ]; then
    rm -f "$file"
    echo "ready $address"
    while [ ! -s "$file" ]; do kill -0 $PPID || exit 1; sleep 0.05; done
    cat "$file"
else
    [ -n "$bypass" ] || exit 1
    echo "$gtid" >"$file.new"
    mv "$file.new" "$file"
    echo "done $gtid"
fi
"""


class Node(DevServer):
    """One node. The first makes the data; the others begin with a copy."""

    def __init__(
        self, number: int, of: list[int], scripts: Path, seed: Node | None = None, binary: str | None = None
    ) -> None:
        self._scripts = scripts  # found by the server on its PATH
        super().__init__(binary=binary)
        self.number = number
        self._seed = seed
        self._of = of  # the ports on which the nodes talk to each other
        self._login_is_set = seed is not None
        if seed is not None:
            self._password = seed._password
        self.bootstraps = seed is None

    def _create(self, deadline: float) -> None:
        if self._seed is None:
            super()._create(deadline)
            return
        self._folder = folder = Path(tempfile.mkdtemp(prefix="pymysqlpool-"))
        self._cleanup = weakref.finalize(self, _remove, folder, os.getpid())
        shutil.copytree(self._seed.datadir, folder / "data")
        (folder / "files").mkdir()
        self.log.touch()

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        return {**environment, "PATH": f"{self._scripts}{os.pathsep}{environment.get('PATH', os.defpath)}"}

    def _server_command(self) -> list[str]:
        command = super()._server_command()
        if self._login_is_set:
            command = [option for option in command if not option.startswith("--init-file=")]
        mine = self._of[self.number]
        around = "" if self.bootstraps else ",".join(f"127.0.0.1:{port}" for port in self._of)
        fast = "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S"
        talk = f"gmcast.listen_addr=tcp://127.0.0.1:{mine};ist.recv_addr=127.0.0.1:{mine + 1};gcache.size=16M"
        command += [
            "--wsrep-on=ON",
            f"--wsrep-provider={provider()}",
            f"--wsrep-cluster-address=gcomm://{around}",
            f"--wsrep-node-address=127.0.0.1:{mine}",
            f"--wsrep-node-incoming-address=127.0.0.1:{self._port}",
            "--wsrep-sst-method=position",
            f"--wsrep-sst-receive-address=127.0.0.1:{mine + 2}",
            f"--wsrep-provider-options={talk};{fast};evs.inactive_check_period=PT0.5S",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            f"--server-id={self.number + 1}",
        ]
        if self.bootstraps:
            command.append("--wsrep-new-cluster")
        return command

    def is_synced(self) -> bool:
        try:
            rows = ask(self, "SHOW GLOBAL STATUS LIKE 'wsrep_local_state_comment'")
        except (pymysql.err.MySQLError, OSError):
            return False
        return bool(rows) and rows[0]["Value"] == "Synced"

    def recover(self) -> None:
        """Start after a crash, from the position that its data have."""
        command = [option for option in self._server_command() if not option.startswith("--log-error")]
        said = subprocess.run([*command, "--wsrep-recover"], capture_output=True, text=True, check=False)
        found = re.findall(r"Recovered position:?\s*(\S+)", said.stdout + said.stderr)
        options = self.options
        self.options = (*options, f"--wsrep-start-position={found[-1]}")
        try:
            self.start()
        finally:
            self.options = options


class Galera(Group):
    """Three nodes."""

    def __init__(self, stack: ExitStack, binary: str | None) -> None:
        ports = [_three_ports() for _ in range(NODES)]
        scripts = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pymysqlpool-")))
        script = scripts / "wsrep_sst_position"
        script.write_text(TRANSFER, encoding="utf-8")
        script.chmod(0o755)
        first = stack.enter_context(Node(0, ports, scripts, binary=binary))
        wait_until(first.is_synced, "the first node makes a cluster", 30)
        account(first)
        ask(first, *TABLES)
        first._end(signal.SIGTERM)
        first._login_is_set = True
        nodes = [first, *(Node(number, ports, scripts, first, binary) for number in range(1, NODES))]
        copies = nodes[1:]
        for node in copies:
            node._create(0)
        first.start()
        wait_until(first.is_synced, "the first node is there", 30)
        first.bootstraps = False
        for node in copies:
            stack.enter_context(node)
        self.nodes = nodes
        self.servers = list(nodes)
        self.wait_for(NODES)

    def wait_for(self, number: int) -> None:
        """Until so many nodes are there and know of each other."""

        def sizes() -> list[str]:
            there = [node for node in self.nodes if node.state == "running" and node.is_synced()]
            return [ask(node, "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")[0]["Value"] for node in there]

        wait_until(lambda: sizes() == [str(number)] * number, f"{number} nodes", 60)

    def changes(self) -> int:
        """How often nodes have come and gone so far, by what the second one says."""
        wait_until(self.nodes[1].is_synced, "the node is one of a cluster", 30)
        return int(ask(self.nodes[1], "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_conf_id'")[0]["Value"])

    def _visits(self, index: int) -> Counter[int]:
        wait_until(self.nodes[index].is_synced, "the node answers", 30)
        return super()._visits(index)

    def isolate(self, index: int, isolated: bool = True) -> None:
        """Take away the node's connections to the others, so that it has no quorum; or give them back."""
        ask(self.servers[index], f"SET GLOBAL wsrep_provider_options = 'gmcast.isolate={isolated:d}'")

    def rejoin(self, index: int) -> None:
        node = self.nodes[index]
        if node.state != "running":
            node.recover()
        wait_until(node.is_synced, "the node is back", 60)


# -- replication by GTID -----------------------------------------------------------------------------------


class Replication(Group):
    """A primary and two replicas that follow it by GTID. The first of them has each commit before its writer is told of
    it (semi-synchronous replication), so nothing that was acknowledged is lost when the primary dies."""

    def __init__(self, stack: ExitStack, binary: str | None) -> None:
        self.servers = []
        for number in range(NODES):
            options = ["--log-bin", "--log-slave-updates", "--gtid-strict-mode=ON", f"--server-id={number + 1}"]
            options += ["--session-track-system-variables=autocommit,character_set_client,last_gtid"]
            options += ["--rpl-semi-sync-master-enabled=ON", "--rpl-semi-sync-master-wait-point=AFTER_SYNC"]
            options += ["--rpl-semi-sync-master-wait-no-slave=OFF", f"--rpl-semi-sync-slave-enabled={number == 1:d}"]
            server = stack.enter_context(DevServer(binary=binary, options=options))
            init = server.folder / "init.sql"
            init.write_text("SET sql_log_bin = 0;\n" + init.read_text(encoding="utf-8"), encoding="utf-8")
            account(server)
            ask(server, "CREATE USER copier IDENTIFIED BY 'copier'", "GRANT REPLICATION SLAVE ON *.* TO copier")
            ask(server, *TABLES, "RESET MASTER", "SET GLOBAL gtid_slave_pos = ''")
            self.servers.append(server)
        for index in range(1, NODES):
            self.follow(index, 0)
        wait_until(self._waits_for_its_replica, "the primary waits for its replica")

    def _waits_for_its_replica(self) -> bool:
        said = ask(self.servers[0], "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_status'")
        return bool(said[0]["Value"] == "ON")

    def follow(self, index: int, primary: int) -> None:
        ask(
            self.servers[index],
            "SET GLOBAL read_only = 1",
            "STOP SLAVE",
            f"CHANGE MASTER TO master_host = '127.0.0.1', master_port = {self.servers[primary].port}, "
            "master_user = 'copier', master_password = 'copier', master_use_gtid = slave_pos, master_connect_retry = 1",
            "START SLAVE",
        )

    def position(self, index: int) -> str:
        return str(ask(self.servers[index], "SELECT @@gtid_current_pos AS p")[0]["p"])

    def catch_up(self, index: int, position: str) -> None:
        said = ask(self.servers[index], f"SELECT MASTER_GTID_WAIT('{position}', 10) AS w")
        assert said[0]["w"] == 0, "the replica never caught up"

    def promote(self, index: int) -> None:
        ask(self.servers[index], "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")

    def switch(self, old: int, new: int) -> None:
        """A planned switchover: no write is lost."""
        ask(self.servers[old], "SET GLOBAL read_only = 1")
        self.catch_up(new, self.position(old))
        self.promote(new)
        ask(self.servers[old], "SET GLOBAL gtid_slave_pos = @@gtid_current_pos")
        for index in range(NODES):
            if index != new:
                self.follow(index, new)


@contextmanager
def with_a_late_replica(binary: str | None) -> Iterator[Replication]:
    """The first replica applies each commit an hour late: later than any test on any machine reads it."""
    with ExitStack() as stack:
        servers = Replication(stack, binary)
        ask(servers.servers[1], "STOP SLAVE", "CHANGE MASTER TO master_delay = 3600", "START SLAVE")
        yield servers
