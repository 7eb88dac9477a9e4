"""Addresses as URLs."""

from __future__ import annotations

import traceback
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pymysqlpool import SettingsError
from pymysqlpool._util.url import host_and_port, masked, parse
from pymysqlpool.cluster import Cluster


def test_a_url_says_hosts_credentials_database_and_options() -> None:
    address = parse("mysql://me%40shop:s%3Acret@db1,db2:3307,[::1]:3308/shop?topology=galera&size=5")
    assert address.hosts == (("db1", None), ("db2", 3307), ("::1", 3308))
    assert address.arguments == {"user": "me@shop", "password": "s:cret", "database": "shop"}
    assert address.options == {"topology": "galera", "size": "5"}


def test_a_url_without_a_host_is_of_this_machine() -> None:
    assert parse("mysql:///shop").hosts == (("localhost", None),)


NO_URLS = (
    *("postgresql://me:S3cret@db/x", "db1:3306", "", "mysql://me:S3cret@db1:no/x", "S3cret", "me:S3cret@db"),
    *("mysql:///S3cret@db/x", "mysql://me:1/S3cret@db/x", "mysql://me:1?S3cret@db/x", "mysql://me:1#S3cret@db/x"),
    *("mysql://me:S3cret", "mysql://me:S3cret:1", "mysql://me:1 S3cret@db", "mysql://me:S3cret\n@db"),
    *("mysql:S3cret", " mysql://S3cret@db", "mysql://me:S3cret@db/x?a", "mysql://me:S3cret@db/x?a=1&a=2"),
    *(
        "mysql://me:%FFS3cret@db",
        "mysql://me:S3cret@[::1",
        "mysql://me:S3cret@[::1]3306",
        "mysql://me:S3cret@::1:3306/x",
    ),
    *("mysql://me:S3cret@db,,db2", "mysql://me:S3cret@db:99999", "mysql://me:S3cret@db:0"),
    *(f"mysql://S3cret@db:{'9' * 5000}", "mysql://me:S3cret@db/a/b", "mysql://me:S3cret@:3306/x"),
    *("mysql://me:S3cret@db1,me:S3cret@db2/x", "mysql://me@db1,you:S3cret@db2"),
    *(None, b"mysql://me:S3cret@db", 3306, ["mysql://me:S3cret@db"]),
)


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_address_is_refused_without_showing_its_password(url: Any) -> None:
    for refuse in (parse, Cluster.from_url):
        with pytest.raises(ValueError, match=r".") as refused:
            refuse(url)
        assert "S3cret" not in "".join(traceback.format_exception(refused.value)).replace(repr(url), "")


@pytest.mark.parametrize(
    "part", ["/", "?", "#", "@", ":", "%", " ", "\n", "\u00e4", "[", "]", ",", "&", "=", "+", "\\", "'", "\U0001f600"]
)
def test_a_part_that_is_quoted_arrives_as_it_was(part: str) -> None:
    text = f"a{part}b"
    address = parse(f"mysql://{quote(text, '')}:{quote(text, '')}@db/{quote(text, '')}?zone={quote(text, '')}")
    assert address.arguments == {"user": text, "password": text, "database": text}
    assert address.options == {"zone": text}


PIECES = [*"mysql:/@?#[],&=%+ .0139\t\u00e4\ud800", "mysql://", "me:", "::1", "zone=", "%2F", "%FF"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
@example("@", "", "", "")
def test_a_password_in_any_url_arrives_as_the_password_or_is_shown_nowhere(
    user: str, before: str, behind: str, rest: str
) -> None:
    url = f"mysql://{user}:{before}S3cret{behind}@{rest}"
    said = ""
    try:
        address = parse(url)
    except ValueError as refused:
        said = str(refused)
    else:
        assert "S3cret" in address.arguments["password"]
        assert all(host and (port is None or 0 < port < 65536) for host, port in address.hosts)
        said = repr(address) + masked(url)
    assert "S3cret" not in said


@given(TEXTS)
def test_any_other_text_is_an_address_or_refused(text: str) -> None:
    for url in (text, f"mysql://{text}"):
        with suppress(ValueError):
            assert parse(url).hosts


@pytest.mark.parametrize(
    ("options", "says"),
    [("balanc=order", "balanc"), ("max_lag=x", "max_lag"), ("balance=x", "balance"), ("zone=a&zone=b", "zone")],
)
def test_options_that_a_cluster_does_not_know_are_refused_by_name(options: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Cluster.from_url(f"mysql://db1,db2/shop?{options}")


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [("db1", "db1", None), ("db1:3307", "db1", 3307), ("::1", "::1", None), ("[::1]", "::1", None)],
)
def test_a_place_is_a_host_and_perhaps_a_port(place: str, host: str, port: int | None) -> None:
    assert host_and_port(place) == (host, port)


def test_a_masked_url_shows_everything_but_the_password() -> None:
    assert masked("mysql://me:S3cret@db1/shop") == "mysql://me:***@db1/shop"
    assert masked("mysql://db1/shop?password=S3cret") == "mysql://db1/shop"
