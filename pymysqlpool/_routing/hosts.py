"""The configured hosts of a cluster: parsed and checked before anything connects. Never: corrects a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from .._util.log import logger
from .._util.url import host_and_port, joined, parse
from ..errors import SettingsError
from ..secrets import Secret, conceal
from .endpoints import Endpoint

DEFAULT_PORT = 3306
Host = str | Mapping[str, Any]
Place = tuple[str, int, Endpoint]
_WORDS = ("topology", "balance", "zone")  # the options that a URL may have
_HEAVIEST = 1e9  # the greatest weight; infinity, or a number beyond a float's, has no share
_NUMBERS = ("failback_after", "check_interval", "max_lag")


def concealed(hosts: Any) -> Any:
    """`hosts`, with what may hold a password concealed: a URL that was written where a host belongs."""
    if isinstance(hosts, str):
        return conceal({"host": hosts})["host"]
    if not isinstance(hosts, Sequence):
        return hosts
    return [conceal(host) if isinstance(host, Mapping) else conceal({"host": host})["host"] for host in hosts]


def places_of(hosts: Sequence[Host]) -> list[Place]:
    """Return host, port and `Endpoint` record of each host, in the given order.

    Raises:
        SettingsError: an entry is no host, or a host is listed twice.
    """
    is_list = isinstance(hosts, list | tuple)  # in order of preference: no set
    if isinstance(hosts, Secret) or (is_list and any(map(_is_url, hosts))):
        raise SettingsError(
            "hosts has a URL in it; write 'host', 'host:port' or a mapping, or use from_url() (the value is not shown, "
            "since it may hold a password)"
        )
    if not is_list or not hosts:
        raise SettingsError(f"hosts={hosts!r} must be a list of at least one host")
    places = [place(host) for host in hosts]
    names = [endpoint.name for _, _, endpoint in places]
    if len({(_spelt_alike(server), port) for server, port, _ in places}) < len(names):
        raise SettingsError(f"hosts={names!r} names a host twice")
    return places


def _spelt_alike(server: str) -> str:
    """One spelling of what may be written in several ways."""
    try:
        return str(ip_address(server))
    except ValueError:
        return server.casefold().removesuffix(".")


def _is_url(host: Host) -> bool:
    return isinstance(host.get("host") if isinstance(host, Mapping) else host, Secret)


def place(host: Host) -> Place:
    """Return the host, the port and the `Endpoint` record of one entry.

    Raises:
        SettingsError: the entry is no host.
    """
    if isinstance(host, str):
        try:
            name, port = host_and_port(host)
        except ValueError as error:
            raise SettingsError(f"hosts: {error}") from error
        known: Mapping[str, Any] = {"host": name, "port": port}
    elif isinstance(host, Mapping):
        known = host
    else:
        raise SettingsError(f"hosts: {host!r} must be 'host', 'host:port' or a mapping")
    server: Any = known.get("host")
    if known.keys() - {"host", "port", "weight", "zone"} or not isinstance(server, str) or not server.strip():
        raise SettingsError(f"hosts: {host!r} needs a host, and may have port, weight and zone")
    weight, zone = known.get("weight", 1.0), known.get("zone", "")
    at: Any = known.get("port")
    if at is None:
        at = DEFAULT_PORT
    elif not isinstance(at, int) or isinstance(at, bool) or not 0 < at < 65536:
        raise SettingsError(f"hosts: in {host!r} the port must be a whole number from 1 to 65535")
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight <= _HEAVIEST:
        raise SettingsError(f"hosts: in {host!r} the weight must be a number more than 0, and at most {_HEAVIEST:.0e}")
    if not isinstance(zone, str):
        raise SettingsError(f"hosts: in {host!r} the zone must be text")
    return server, at, Endpoint(joined(server, at), float(weight), zone)


def check_zone(zone: Any, balance: str, places: Sequence[Place], name: str) -> None:
    """Refuse a zone of this process that is no text, or is needed and not given; warn of one that is perhaps misspelt.
    It may be right: the same hosts are given to processes in zones that have none."""
    if not isinstance(zone, str):
        raise SettingsError(f"zone={zone!r} must be text")
    if balance == "zone" and not zone:
        raise SettingsError('balance="zone" needs zone: the zone of this process, whose hosts are read from first')
    zones = sorted({endpoint.zone for _, _, endpoint in places})
    if balance == "zone" and zone not in zones:
        said = {"event": "no host in zone", "cluster": name, "zone": zone}
        logger.warning("Cluster(%s): no host is in zone %r; theirs are %s", name, zone, zones, extra=said)


def of_url(url: str) -> tuple[dict[str, Any], str | None]:
    """Return the arguments of `Cluster` that are in `url`, and what is wrong with it: an error that was raised here
    would show the password in a frame."""
    try:
        address = parse(url)
    except ValueError as error:
        return {}, str(error)
    own: dict[str, Any] = dict(address.options)
    known = (*_WORDS, *_NUMBERS)
    if unknown := sorted(own.keys() - set(known)):
        return {}, f"unknown option {unknown[0]!r} in the URL: {', '.join(known)} are known"
    for name in own.keys() & set(_NUMBERS):
        try:
            own[name] = float(own[name])
        except ValueError:
            return {}, f"{name}={own[name]!r} must be a number of seconds"
    hosts: list[Host] = [{"host": host, "port": port or DEFAULT_PORT} for host, port in address.hosts]
    return {"hosts": hosts, **conceal(address.arguments), **own}, None
