"""Reads on replicas that see what the same visitor has written with an earlier request: the position of the last commit
travels with the visitor, signed, in a cookie or in a header of an API.

    application = PoolMiddleware(application, cluster.primary, carry_commits=CommitCookie(key=SECRET_KEY))

The response to a request that has committed carries the position, which `connection.commit_token` is within a request.
A replica that is borrowed in one of the visitor's next requests then has that commit, as with `get_connection(after=)`.

Owns: the form of what is carried, its signature, and when it is too old. A value that is forged, old, of another
cluster, or none at all, is as if there were none: its sender gains nothing, and nothing is refused. The signature
keeps others from having each of their reads wait, or done by the primary.

Never: asks a server, waits for a position, refuses a request, shows its key (Invariant 16).

Sources: RFC 6265bis, "Set-Cookie" (what a name, a value and a path may consist of; SameSite=None needs Secure), and
RFC 2104 (HMAC). The expiry is an instant of the wall clock, since the processes that sign and verify have only that in
common (Invariant 14 is about waits).
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections.abc import Sequence
from time import time
from typing import Any, Literal, Protocol

from ._driver.commits import UNKNOWN
from ._pool.committed import Committed
from ._pool.cost import Use
from .errors import SettingsError
from .secrets import Secret

__all__ = ["CarriedCommits", "CommitCookie", "CommitHeader", "Key", "Scope"]

Key = str | bytes | Secret  #: what signs, at least 16 bytes
_SHORTEST_KEY = 16  # bytes
_LONGEST_TOKEN = 256  # characters; a longer one, of many domains, is carried as unknown
_LONGEST_VALUE = 512  # characters
_MOST_COOKIES = 4  # of the same name, of which one may be ours; others may be set by other hosts of the domain
_PURPOSE = b"pymysqlpool carried commit 1"  # a key that signs other things as well signs nothing that looks like this
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ATTRIBUTE = re.compile(r"[\x21-\x3a\x3c-\x7e]*")  # of a cookie
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Scope(Protocol):
    """What a request has committed, and its connections; a `RequestScope` is one.

    Attributes:
        committed: the positions of its commits.
        uses: its connections so far, in order.
    """

    @property
    def committed(self) -> Committed: ...

    uses: list[Use]


class CarriedCommits:
    """What `CommitCookie` and `CommitHeader` have in common.

    Args:
        key: what signs, at least 16 bytes; or several, of which the first signs, and all are accepted.
        max_age: seconds for which reads see the commit. Replicas that are further behind are not waited for after it.

    Attributes:
        request_header: the name of the header in which a request says what its visitor has committed.

    Raises:
        SettingsError: an argument is out of bounds. The message does not show the key.
    """

    request_header: str

    def __init__(self, key: Key | Sequence[Key], max_age: int) -> None:
        keys = _concealed(key)
        del key  # in the clear, for tools that report the variables of frames
        self.max_age = max_age
        if not keys or not all(map(_is_long_enough, keys)):
            raise SettingsError(f"key: at least {_SHORTEST_KEY} characters or bytes are needed (it is not shown)")
        self._keys = [_derived(its) for its in keys]
        if type(max_age) is not int or max_age < 1:
            raise SettingsError(f"max_age={max_age!r} must be a whole number of seconds, at least 1")

    # -- a request, and its response -----------------------------------------------------------------------

    def receive(self, scope: Scope, pool: Any, said: str | None) -> None:
        """Have the request of `scope` read what the commit that `said` tells of has written.

        Args:
            pool: a target of the cluster.
            said: the value of `request_header`; None: there is none.
        """
        token = self.read(pool.cluster.name, said)
        if token is not None:
            scope.committed.carry(pool, token)

    def response_header(self, scope: Scope, pool: Any) -> tuple[str, str] | None:
        """The header for the response, name and value; None where the request has committed nothing."""
        token = scope.committed.position(pool, scope.uses)
        return None if token is None else self.header(pool.cluster.name, token)

    # -- the value -----------------------------------------------------------------------------------------

    def read(self, cluster: str, said: str | None) -> str | None:
        """Return the position that the value of `request_header` tells of; None where it is not to be believed.

        Args:
            cluster: the name of the cluster.
            said: the value; anything, where it is of a message of a websocket.
        """
        return self._verified(cluster, said.strip()) if isinstance(said, str) else None

    def header(self, cluster: str, token: str) -> tuple[str, str]:
        """The name and the value of the header that carries `token`, a position in the cluster of that name."""
        return self.request_header, self._signed(cluster, token)

    def _signed(self, cluster: str, token: str) -> str:
        if len(token) > _LONGEST_TOKEN or not _TOKEN.fullmatch(token):
            token = UNKNOWN
        said = f"{int(time()) + self.max_age}.{_text(token.encode())}"
        return f"{said}.{_text(_signature(self._keys[0], cluster, said))}"

    def _verified(self, cluster: str, value: str) -> str | None:
        if len(value) > _LONGEST_VALUE or not value.isascii():
            return None
        said, _, signature = value.rpartition(".")
        if not any(hmac.compare_digest(_text(_signature(key, cluster, said)), signature) for key in self._keys):
            return None
        expires, _, token = said.partition(".")  # ours, so it is well-formed
        try:
            return _bytes(token).decode() if int(expires) > time() else None
        except (ValueError, NoBase64):  # of a later version, perhaps
            return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.request_header} max_age={self.max_age}>"


class CommitCookie(CarriedCommits):
    """A cookie for browsers. It is HttpOnly: no script of a page reads it.

    Args:
        key, max_age: as in `CarriedCommits`; the application's own secret may be the key, which other signatures share.
        name, path, domain: of the cookie. Two applications of one host need two names, or two paths.
        secure: it is sent over HTTPS only.
        same_site: whether a request from another site's page carries it. "None" needs `secure`.

    Raises:
        SettingsError: an argument is out of bounds.
    """

    request_header: str = "Cookie"

    def __init__(
        self,
        key: Key | Sequence[Key],
        *,
        name: str = "pymysqlpool_commit",
        max_age: int = 30,
        secure: bool = True,
        same_site: Literal["Lax", "Strict", "None"] = "Lax",
        path: str = "/",
        domain: str | None = None,
    ) -> None:
        keys = _concealed(key)
        del key
        super().__init__(keys, max_age)
        _check("name", name, _NAME)
        _check("path", path, _ATTRIBUTE)
        _check("domain", domain or "", _ATTRIBUTE)
        if same_site not in ("Lax", "Strict", "None") or (same_site == "None" and not secure):
            raise SettingsError(f'same_site={same_site!r} must be "Lax", "Strict", or, with secure, "None"')
        self.name = name
        flags = [f"Max-Age={max_age}", f"Path={path}", *([f"Domain={domain}"] if domain else [])]
        self._flags: str = "; ".join([*flags, *(["Secure"] if secure else []), "HttpOnly", f"SameSite={same_site}"])

    def read(self, cluster: str, said: str | None) -> str | None:
        found = 0
        for cookie in said.split(";") if isinstance(said, str) and self.name in said else ():
            name, _, value = cookie.partition("=")
            if name.strip() == self.name and found < _MOST_COOKIES:
                found += 1
                token = self._verified(cluster, value.strip().strip('"'))
                if token is not None:
                    return token
        return None

    def header(self, cluster: str, token: str) -> tuple[str, str]:
        return "Set-Cookie", f"{self.name}={self._signed(cluster, token)}; {self._flags}"


class CommitHeader(CarriedCommits):
    """A header for the clients of an API: they send the last one that they were sent with each request.

    Args:
        key, max_age: as in `CarriedCommits`.
        name: of the header, in requests and in responses.

    Raises:
        SettingsError: an argument is out of bounds.
    """

    def __init__(self, key: Key | Sequence[Key], *, name: str = "X-Commit-Position", max_age: int = 30) -> None:
        keys = _concealed(key)
        del key
        self.request_header: str = name
        super().__init__(keys, max_age)
        _check("name", name, _NAME)


def check(carry_commits: object, pool: object) -> None:
    """Refuse what cannot carry commits, or a pool without replicas that could lack them.

    Raises:
        SettingsError: it is something else; `pool` is no target of a `Cluster`.
    """
    if not isinstance(carry_commits, CarriedCommits):
        kind = type(carry_commits).__name__  # not its repr: it may be the key
        raise SettingsError(f"carry_commits must be a CommitCookie or a CommitHeader, not {kind}")
    if not hasattr(pool, "cluster"):
        raise SettingsError("carry_commits needs a target of a Cluster, such as cluster.primary: one server has it all")


def _check(option: str, value: object, form: re.Pattern[str]) -> None:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise SettingsError(f"{option}={value!r} has something in it that it may not have there")


def _concealed(key: Any) -> list[Secret]:
    several = key if isinstance(key, list | tuple) else [key]
    return [its if isinstance(its, Secret) else Secret(its) for its in several]


def _is_long_enough(key: Secret) -> bool:
    return isinstance(key.reveal(), str | bytes) and len(key.reveal()) >= _SHORTEST_KEY


def _derived(key: Secret) -> Secret:
    known: str | bytes = key.reveal()
    return Secret(hmac.digest(known.encode() if isinstance(known, str) else known, _PURPOSE, "sha256"))


def _signature(key: Secret, cluster: str, said: str) -> bytes:
    return hmac.digest(key.reveal(), f"{cluster}\n{said}".encode(), "sha256")


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
