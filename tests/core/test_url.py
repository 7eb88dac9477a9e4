"""Addresses as URLs."""

from __future__ import annotations

import pytest

from pymysqlpool._util.url import host_and_port, masked, parse


def test_a_url_says_hosts_credentials_database_and_options() -> None:
    address = parse("mysql://me%40shop:s%3Acret@db1,db2:3307,[::1]:3308/shop?topology=galera&size=5")
    assert address.hosts == (("db1", None), ("db2", 3307), ("::1", 3308))
    assert address.arguments == {"user": "me@shop", "password": "s:cret", "database": "shop"}
    assert address.options == {"topology": "galera", "size": "5"}


def test_a_url_without_a_host_is_of_this_machine() -> None:
    assert parse("mysql:///shop").hosts == (("localhost", None),)


@pytest.mark.parametrize("url", ["postgresql://me:S3cret@db/x", "db1:3306", "", "mysql://me:S3cret@db1:no/x"])
def test_what_is_no_address_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse(url)
    assert "S3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [("db1", "db1", None), ("db1:3307", "db1", 3307), ("::1", "::1", None), ("[::1]", "::1", None)],
)
def test_a_place_is_a_host_and_perhaps_a_port(place: str, host: str, port: int | None) -> None:
    assert host_and_port(place) == (host, port)


def test_a_masked_url_shows_everything_but_the_password() -> None:
    assert masked("mysql://me:S3cret@db1/shop") == "mysql://me:***@db1/shop"
    assert masked("mysql://db1/shop") == "mysql://db1/shop"
