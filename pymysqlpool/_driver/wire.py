"""One session with the server, apart from the lease that holds it.

`Wire` has the attributes of a connected `WireConnection`. A new handle receives a copy of them, which makes handles
cheap, makes each one start with the Python-side state of a new connection (converters, cursor class, attributes), and
leaves nothing to clean in the dead one (Invariant 7).

Owns: the socket between two leases, and the facts about the returned handle. Never: decides what happens to the
session. Invariants that live here: 7 (dead leases stay dead), 10 (never drain).
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from functools import partial
from sys import intern
from time import monotonic
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND

from ..errors import ConnectionInterruptedError
from .commands import COM_QUERY, pack
from .exchange import WireConnection
from .lasting import lasting
from .protocol.packets import ERR, MORE_RESULTS, status_of_bare_ok
from .protocol.reply import at_hand, reply
from .reading import COPIED
from .receive import SocketSource
from .session_state import AUTOCOMMIT_STATUS, IN_TRANSACTION, SESSION_FLAGS, marks_after
from .statements import NOTHING, STATE, ReadStatement

_LAST_REPLIES = 0.005  # seconds that a return waits for the OK packet of a CALL
_PRISTINE = {name: intern(f"_pristine_{name}") for name in COPIED}
# Asked by each statement or return: Python finds them sooner in a handle than as defaults of its class.
_ASKED = {
    name: getattr(WireConnection, name)
    for name in (
        "_deadline",
        "_harmless",
        "_login",
        "_serves_file",
        "_tracked",
        "_unmarked",
        "block",
        "ended_by_server",
    )
}


class SessionFacts:
    """The facts that a returned handle shows about its session."""

    __slots__ = ("error", "open", "quiet", "reconnected")

    def __init__(self, quiet: bool, open: bool, reconnected: bool, error: err.MySQLError | None) -> None:
        self.quiet = quiet  # at a command boundary
        self.open = open  # it has a socket
        self.reconnected = reconnected  # which is of another session, made by ping(reconnect=True)
        self.error = error  # the last error packet


class Wire:
    """One established session with the server, apart from the lease that holds it.

    `readable(0)` is a zero-timeout poll: true when there is something to read, without a round trip. A quiet wire has
    nothing to read; if there is something, the server has ended the session: an error packet, the end of the stream, a
    reset. So a true answer means: dead.
    """

    __slots__ = (
        "_attributes",
        "_beginning",
        "_converters",
        "attributes",
        "autocommit_status",
        "exchange",
        "lasting",
        "readable",
        "sock",
        "source",
        "timeout",
    )

    def __init__(self, connection: WireConnection, converters: dict[str, Any]) -> None:
        """Take the session out of `connection`, which is left without one.

        Args:
            converters: those that the pool's connections share, as far as they are the same, and `lasting`.
        """
        attributes, connection.__dict__ = connection.__dict__, {}
        self._converters = converters
        self.sock: Any = attributes["_sock"]
        self.exchange: threading.Lock = attributes["_exchange"]
        source = attributes["_rfile"]
        self.source = source if type(source) is SocketSource else SocketSource(self.sock)
        self.timeout: float | None = attributes["_read_timeout"]
        self.readable = _readable(self.sock)
        self._keep(attributes)
        self._beginning = self._attributes
        self.lasting = lasting(attributes, converters)

    def _keep(self, attributes: dict[str, Any]) -> None:
        """These attributes are what a new handle shows."""
        for name, pristine in _PRISTINE.items():
            own = attributes.pop(name, None)
            if own is not None:
                shared = self._converters.setdefault(name, own)
                attributes[pristine] = shared if shared is own or shared == own else own
        attributes["_result"] = None
        attributes["_marks"] = attributes["_effect"] = NOTHING
        attributes.pop("_error_args", None)
        if "_live" not in attributes:  # else they were kept before, for this session or for the one it repeats
            attributes["_live"] = True  # the handle has not been given back
            for name, default in _ASKED.items():
                attributes.setdefault(name, default)
        self.sock.settimeout(self.timeout)
        attributes["_current_timeout"] = self.timeout
        attributes["server_status"] &= SESSION_FLAGS
        # In the order of the pool's other sessions: Python 3.11 remembers where in a dict it has found an attribute.
        ordered = self._converters.setdefault("order", dict.fromkeys(attributes)).copy()
        ordered.update(attributes)
        if len(ordered) == len(attributes):  # they have the same names
            attributes = ordered
        self._attributes = attributes
        # The attributes of a new handle onto this session. Not a method, which would cost a call at every borrow.
        self.attributes: Callable[[], dict[str, Any]] = attributes.copy
        self.autocommit_status: int = attributes["server_status"] & AUTOCOMMIT_STATUS

    @property
    def names(self) -> Set[str]:
        """The names of `attributes`, which need no copy."""
        return self._attributes.keys()

    def lend_for_set_up(self, handle: WireConnection) -> WireConnection:
        """Make `handle`, which is nothing yet, a handle with the attributes that the session had when it was new."""
        handle.__dict__ = {**self._beginning, "server_status": self._attributes["server_status"], "_slot": None}
        return handle

    def adopt(self, handle: WireConnection) -> None:
        """The set-up by `handle` is done: what its attributes are now, those of later handles will be."""
        attributes, handle.__dict__ = handle.__dict__, {}
        del attributes["_slot"]
        self._keep(attributes)

    def read_by(self, read_statement: ReadStatement) -> None:
        """Statements of later handles are read by this."""
        self._attributes["_read_statement"] = read_statement

    def facts(self, attributes: dict[str, Any]) -> SessionFacts:
        """Return the facts about a handle that is dead by now, before its session is judged.

        If it is quiet, the exchange lock is taken: no thread that still has the handle can begin an exchange.
        """
        quiet = self.is_quiet(attributes)  # first: it may read a last packet, and find the connection closed
        sock = attributes.get("_sock")
        return SessionFacts(
            quiet=quiet,
            open=sock is not None,
            reconnected=sock is not None and sock is not self.sock,
            error=last_error(attributes),
        )

    def is_quiet(self, attributes: dict[str, Any]) -> bool:
        """Whether the handle with these attributes is at a command boundary. If so, takes the exchange lock.

        With the lock taken no thread that still holds the handle can begin an exchange.
        """
        if attributes.get("_sock") is not self.sock:
            return False
        is_free = self.exchange.acquire(False) or self._read_last_replies(attributes)
        return is_free and not has_unread(attributes)

    def _read_last_replies(self, attributes: dict[str, Any]) -> bool:
        """Whether all that was left to read were OK packets, which are there or come within milliseconds: that of a
        CALL, whose caller has read the rows. Rows are never read (Invariant 10). The exchange lock stays taken."""
        result, source, fetch = attributes.get("_result"), attributes["_rfile"], attributes["_fetch"]
        if result is None or result.unbuffered_active or not result.has_next or type(source) is not SocketSource:
            return False
        if not fetch.acquire(False):
            return False  # another thread is reading at this moment
        try:
            deadline = monotonic() + _LAST_REPLIES
            while True:
                if source.position == len(source.buffer):
                    source.refill(deadline)
                ok = at_hand(source, "", True, {}, True, only_ok=True)
                if ok is None:
                    return False
                attributes["server_status"] = ok.server_status
                attributes["_marks"] = marks_after(
                    attributes["_marks"], STATE, ok.server_status, ok.warning_count, ok.insert_id, ok.message
                )
                if not ok.has_next:
                    return True
        except (OSError, err.MySQLError):
            return False
        finally:
            fetch.release()
            with suppress(OSError):
                self.sock.settimeout(self.timeout)

    def marks_left(self, attributes: Mapping[str, Any]) -> int:
        """The marks of a handle that is dead by now; STATE where they do not show everything that it did to the
        session."""
        source = attributes["_rfile"]
        if (
            not self.exchange.locked()
            and attributes["_sock"] is self.sock
            and attributes["server_status"] & AUTOCOMMIT_STATUS == self.autocommit_status
            and attributes["_current_timeout"] == self.timeout
            and (type(source) is not SocketSource or source.position == len(source.buffer))
        ):
            marks: int = attributes["_marks"]
            if not marks or attributes["_tracked"]:
                return marks
        return STATE

    def run(self, statement: bytes, deadline: float) -> bool:
        """Run a short statement that has no result, on a quiet session: as `pipeline` does within `deadline`, in a
        fifth of the steps. Where autocommit is off, most returns need it.

        Returns:
            Whether the reply shows that the statement left nothing behind: no transaction, no warnings.

        Raises:
            Exception: it failed; the session's state is unknown.
        """
        if not self.exchange.acquire(False):
            raise ConnectionInterruptedError("another thread is using it")
        source = self.source
        source.sequence = 1
        self.sock.sendall(pack(COM_QUERY, statement))  # nothing else is under way, so it fits
        source.refill(deadline)
        status = status_of_bare_ok(source.buffer)
        if status is not None and not status & MORE_RESULTS:  # the usual one
            source.position = 11
            self.sock.settimeout(self.timeout)
            self.exchange.release()
            return not status & IN_TRANSACTION
        answer = at_hand(source, "", True, {}, True, only_ok=True)
        if answer is None:
            answer = source.run(reply(source, "", True, {}, True, only_ok=True), deadline)
        self.sock.settimeout(self.timeout)
        if type(answer) is ERR:
            raise answer.exception
        if answer.has_next or source.position != len(source.buffer):
            raise err.InternalError(f"the reply to {statement!r} is followed by something else")
        self.exchange.release()
        return self.is_bare(answer)

    @staticmethod
    def is_bare(answer: Any) -> bool:
        """Whether a reply shows that its statement left nothing behind: no transaction, no warnings."""
        return not (
            answer.affected_rows or answer.insert_id or answer.warning_count or answer.server_status & IN_TRANSACTION
        )

    def borrow_privately(self, attributes: dict[str, Any] | None = None) -> WireConnection:
        """A handle for the pool's own exchanges; `take_back` ends it."""
        private = WireConnection.__new__(WireConnection)
        private.__dict__ = {**(self.attributes() if attributes is None else attributes), "_slot": None}
        return private

    def take_back(self, private: WireConnection) -> None:
        attributes, private.__dict__ = private.__dict__, {}
        if is_open(attributes):
            self.detach(attributes)

    def detach(self, attributes: dict[str, Any]) -> None:
        """A handle gives its attributes back: keep what the session's life goes on with."""
        self._attributes["server_status"] = attributes["server_status"] & SESSION_FLAGS
        if attributes["_current_timeout"] != self.timeout:
            self.sock.settimeout(self.timeout)

    def cut(self) -> None:
        """End a session that another thread may be using: a thread that waits for its reply is woken with an error."""
        # Not SSLSocket's own shutdown: it drops TLS first, and a thread in mid-send would go on in the clear.
        is_socket = isinstance(self.sock, socket.socket)
        with suppress(OSError):
            (partial(socket.socket.shutdown, self.sock) if is_socket else self.sock.shutdown)(socket.SHUT_RDWR)

    def close(self, quiet: bool) -> None:
        """End the session: with a COM_QUIT when the wire is `quiet`, else by cutting it. Never blocks, never raises."""
        with suppress(Exception):
            if not quiet:
                self.cut()
            else:
                self.sock.settimeout(0)
                self.sock.send(pack(COMMAND.COM_QUIT))
        self.forget()

    def forget(self) -> None:
        """Close this process's descriptor without COM_QUIT: after a fork another process still uses the session."""
        rfile = self._attributes.get("_rfile")
        with suppress(Exception):
            if rfile is not None:
                rfile.close()
        with suppress(Exception):
            self.sock.close()


# What a connection that has no session shows of one: plain values on the class, which hide that it has none.
SESSION_DEFAULTS: Mapping[str, Any] = {
    name: value
    for kind in reversed(WireConnection.__mro__[:-1])
    for name, value in vars(kind).items()
    if not (name.startswith("__") or callable(value) or hasattr(value, "__get__"))
}


def _readable(sock: Any) -> Callable[[float], Any]:
    """A function of a timeout in milliseconds: something true when there is something to read from `sock`."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return poll.poll
    return lambda timeout: select.select([sock], [], [], timeout / 1000)[0]


def has_unread(attributes: Mapping[str, Any]) -> bool:
    """Return whether something came from the server that no command asked for."""
    source = attributes.get("_rfile")
    return type(source) is SocketSource and source.position != len(source.buffer)


def is_open(attributes: Mapping[str, Any]) -> bool:
    return attributes.get("_sock") is not None


def abandon(attributes: Mapping[str, Any], wire: Wire) -> None:
    """A handle that is not kept: its half-read result must read nothing more, not even when it or its cursor is
    collected (Invariant 10), and a session that PyMySQL has put in the place of the wire's ends with it."""
    result = attributes.get("_result")
    if result is not None and result.unbuffered_active:
        result.abandon()
    sock = attributes.get("_sock")
    if sock is not None and sock is not wire.sock:
        sock.close()


def last_error(attributes: Mapping[str, Any]) -> err.MySQLError | None:
    """The last error packet, for a return without a known exception."""
    arguments = attributes.get("_error_args")
    return err.OperationalError(*arguments) if arguments else None
