"""What carries the position of a commit from one request to the next: its form, its signature, its bounds."""

from __future__ import annotations

import traceback
from http.cookies import SimpleCookie
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymysqlpool import ConnectionPool, SettingsError
from pymysqlpool.asgi import PoolMiddleware as AsgiMiddleware
from pymysqlpool.carried_commits import CommitCookie, CommitHeader
from pymysqlpool.secrets import Secret
from pymysqlpool.wsgi import PoolMiddleware

KEY = "a key of more than sixteen characters"
OTHER = "another key, which has not signed it"
TOKENS = ["0-1-57", "0-1-57,1-2-3", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23", "?"]
NAME = "pymysqlpool_commit"


def value_of(cookie: CommitCookie, token: str, cluster: str = "shop") -> str:
    name, said = cookie.header(cluster, token)
    assert name == "Set-Cookie"
    return SimpleCookie(said)[cookie.name].value


@pytest.mark.parametrize("token", TOKENS)
def test_what_was_signed_is_read(token: str) -> None:
    cookie = CommitCookie(KEY)
    value = value_of(cookie, token)
    assert cookie.read("shop", f"session=abc; {NAME}={value}; theme=dark") == token
    header = CommitHeader(KEY)
    name, said = header.header("shop", token)
    assert (name, header.read("shop", said)) == ("X-Commit-Position", token)
    assert header.request_header == name


def test_what_is_forged_old_or_foreign_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = CommitCookie(KEY, max_age=30)
    value = value_of(cookie, "0-1-57")
    said = f"{NAME}={value}"
    assert cookie.read("another cluster", said) is None
    assert CommitCookie(OTHER).read("shop", said) is None
    assert CommitCookie(KEY, name="mine").read("shop", said) is None
    expires, token, signature = value.split(".")
    later = str(int(expires) + 1000)
    for forged in (f"{later}.{token}.{signature}", f"{expires}.MC0xLTU4.{signature}", f"{expires}.{token}.", token, ""):
        assert cookie.read("shop", f"{NAME}={forged}") is None
    for at in range(len(value)):
        changed = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]
        assert cookie.read("shop", f"{NAME}={changed}") is None
    monkeypatch.setattr("pymysqlpool.carried_commits.time", lambda: int(expires) - 0.5)
    assert cookie.read("shop", said) == "0-1-57"
    monkeypatch.setattr("pymysqlpool.carried_commits.time", lambda: float(expires))
    assert cookie.read("shop", said) is None


def test_a_cookie_of_the_same_name_from_elsewhere_hides_none_of_ours() -> None:
    cookie = CommitCookie(KEY)
    mine = f"{NAME}={value_of(cookie, '0-1-57')}"
    assert cookie.read("shop", f"{NAME}=x; {NAME}=y;{mine}") == "0-1-57"
    assert cookie.read("shop", f"{NAME}=x; " * 1000 + mine) is None, "a bounded number is looked at"


@given(
    st.one_of(
        st.none(), st.text(), st.builds("{}={}".format, st.just(NAME), st.text()), st.from_regex(r"\d+\.\w+\.\w+")
    )
)
def test_no_text_raises_or_is_believed(said: str | None) -> None:
    assert CommitCookie(KEY).read("shop", said) is None
    assert CommitHeader(KEY).read("shop", said) is None


def test_its_size_is_bounded() -> None:
    """A position of very many domains is carried as one that is not known: then the primary is read."""
    cookie = CommitCookie(KEY)
    longest = ",".join(f"{domain}-1-123456789" for domain in range(500))
    assert cookie.read("shop", f"{NAME}={value_of(cookie, longest)}") == "?"
    assert cookie.read("shop", f"{NAME}={value_of(cookie, 'a' * 256)}") == "a" * 256
    assert len(cookie.header("shop", "a" * 256)[1]) < 550
    assert cookie.read("shop", f"{NAME}={'a' * 10_000_000}") is None


def test_a_key_is_changed_without_a_reader_who_notices() -> None:
    old = f"{NAME}={value_of(CommitCookie(OTHER), '0-1-57')}"
    new = f"{NAME}={value_of(CommitCookie([KEY, OTHER]), '0-1-57')}"
    assert CommitCookie([KEY, OTHER]).read("shop", old) == "0-1-57"
    assert CommitCookie([Secret(KEY)]).read("shop", new) == "0-1-57"
    assert CommitCookie(KEY.encode()).read("shop", new) == "0-1-57"


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("same_site", ["Lax", "Strict"])
@pytest.mark.parametrize("domain", [None, "a.example"])
def test_the_flags_of_the_cookie(secure: bool, same_site: Any, domain: str | None) -> None:
    cookie = CommitCookie(KEY, max_age=7, secure=secure, same_site=same_site, path="/shop", domain=domain)
    flags = SimpleCookie(cookie.header("shop", "0-1-1")[1])[NAME]
    assert (bool(flags["secure"]), flags["httponly"], flags["samesite"]) == (secure, True, same_site)
    assert (flags["path"], flags["max-age"], flags["domain"]) == ("/shop", "7", domain or "")


@pytest.mark.parametrize(
    "options",
    [
        {"key": "short"},
        {"key": ""},
        {"key": []},
        {"key": [KEY, "short"]},
        {"key": None},
        {"key": 12345678901234567890},
        {"name": "a b"},
        {"name": ""},
        {"name": "a;b"},
        {"max_age": 0},
        {"max_age": 1.5},
        {"path": "/;HttpOnly"},
        {"domain": "a\r\nX: y"},
        {"same_site": "lax"},
        {"same_site": "None", "secure": False},
    ],
)
def test_what_it_cannot_be_is_refused_and_no_key_is_shown(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refused:
        CommitCookie(**{"key": KEY, **options})
    told = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    inside = [
        frame for frame in told.stack if frame.filename.endswith("carried_commits.py") and "tests" not in frame.filename
    ]
    assert inside
    assert KEY not in str([frame.locals for frame in inside])
    assert KEY not in repr(CommitCookie(KEY)) + repr(vars(CommitCookie(KEY)))


@pytest.mark.parametrize("middleware", [PoolMiddleware, AsgiMiddleware])
def test_a_pool_of_one_server_and_a_bare_key_are_refused(middleware: Any) -> None:
    pool = ConnectionPool(host="127.0.0.1", read_timeout=1, timeout=1)

    def application(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(SettingsError, match="target of a Cluster"):
        middleware(application, pool, carry_commits=CommitCookie(KEY))
    with pytest.raises(SettingsError, match="CommitHeader, not str") as refused:
        middleware(application, pool, carry_commits=KEY)
    assert KEY not in str(refused.value)
