"""What OPTIONS["pool"] may say (must-handle 6 and 7)."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from pymysqlpool_django import pools
from pymysqlpool_django.options import LIFETIME, MAXSIZE, SIZE, TIMEOUT, read

from .conftest import Connect


def core(**given: Any) -> dict[str, Any]:
    return dict(read("default", given, False).core)


def test_true_means_the_defaults() -> None:
    assert read("main", True, False).core == {
        "size": SIZE,
        "maxsize": MAXSIZE,
        "timeout": TIMEOUT,
        "name": "main",
        "pre_ping": False,
    }


def test_djangos_names_for_postgresql_are_synonyms() -> None:
    named = core(min_size=2, max_size=6, timeout=3, max_waiting=4, max_lifetime=60, max_idle=30)
    assert named == core(size=2, maxsize=6, timeout=3, max_waiting=4, con_lifetime=60, max_idle=30)


@pytest.mark.parametrize(
    ("one", "other"), [("min_size", "size"), ("max_size", "maxsize"), ("max_lifetime", "con_lifetime")]
)
def test_two_names_for_one_thing_are_refused(one: str, other: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"has two names for one option: {other} and {one}"):
        read("default", {one: 5, other: 5}, False)


@pytest.mark.parametrize(
    ("given", "size", "maxsize"),
    [
        ({"max_size": 2}, 2, 2),
        ({"max_size": 50}, SIZE, 50),
        ({"min_size": 3}, 3, MAXSIZE),
        ({"min_size": 40}, 40, 40),
        ({"size": 5, "maxsize": 6}, 5, 6),
    ],
)
def test_either_bound_alone_is_enough(given: dict[str, int], size: int, maxsize: int) -> None:
    assert (core(**given)["size"], core(**given)["maxsize"]) == (size, maxsize)


def test_an_unknown_option_is_refused_by_name_with_the_allowed_ones() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'main'.* MAX_SIZE, colour. Allowed are .*max_size"):
        read("main", {"colour": "red", "MAX_SIZE": 5}, False)


@pytest.mark.parametrize("given", ["yes", 5, [1]])
def test_anything_but_true_or_a_dict_is_refused(given: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="must be True or a dict"):
        read("default", given, False)


def test_release_is_request_or_transaction() -> None:
    assert read("default", {"release": "transaction"}, False).release_after_transaction
    assert not read("default", {"release": "request"}, False).release_after_transaction
    with pytest.raises(ImproperlyConfigured, match="it must be 'request' or 'transaction'"):
        read("default", {"release": "soon"}, False)


def test_health_checks_ping_before_lending_unless_the_options_say_otherwise() -> None:
    assert read("default", True, True).core["pre_ping"] is True
    assert read("default", {"pre_ping": 30.0}, True).core["pre_ping"] == 30.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": {"max_size": 0}}, "maxsize=0"),
        ({"pool": {"size": 9, "maxsize": 2}}, "size=9 is larger than maxsize=2"),
        ({"ssl_mode": "REQUIRED"}, "unknown option 'ssl_mode'"),
    ],
)
def test_what_the_core_refuses_is_improperly_configured(connect: Connect, changes: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        connect(**changes).ensure_connection()


def test_persistent_connections_are_refused_when_the_pool_is_made(connect: Connect, alias: str) -> None:
    wrapper = connect(CONN_MAX_AGE=60)
    with pytest.raises(ImproperlyConfigured, match=rf"\'{alias}\'\]: Pooling doesn\'t support .*CONN_MAX_AGE is 60"):
        wrapper.ensure_connection()
    assert alias not in pools.stats()


def test_persistent_connections_are_not_looked_for_once_there_is_a_pool(connect: Connect) -> None:
    wrapper = connect()
    wrapper.ensure_connection()
    wrapper.settings_dict["CONN_MAX_AGE"] = None
    assert wrapper.pool is not None


def test_the_settings_are_never_changed(connect: Connect) -> None:
    given = {"max_size": 2, "timeout": 5}
    wrapper = connect(given, CONN_HEALTH_CHECKS=True)
    wrapper.ensure_connection()
    assert given == {"max_size": 2, "timeout": 5}
    assert wrapper.settings_dict["OPTIONS"]["pool"] is given


def test_the_lifetime_is_the_cores() -> None:
    assert LIFETIME == 3600
