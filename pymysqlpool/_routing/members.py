"""`Members`: which hosts of a group are new to the cluster, and which of those it had found have left.

Nodes name themselves as they were configured, which need not be how the application names them: `db1` may advertise
10.0.0.1. So each host says which member it is, a member is new only once every host of the list has been asked, and a
host that was found and turns out to be one of the list is left. A host that is another member than it was, without
having been down, is a proxy: then the list is all that is used, since the proxy is there to choose.

Pure, like the topology, whose endpoints it reads: no I/O, no lock, no clock. The cluster calls it with its lock held.
Never: removes a host that the application has listed.
"""

from __future__ import annotations

from typing import NamedTuple

from .endpoints import FOREVER, Answer, Endpoint, State


class Changes(NamedTuple):
    """What follows from an answer: new members, found hosts that have left, and those that are back."""

    new: dict[str, str]
    left: list[int]
    back: list[int]


class Members:
    """The members of the group that a cluster's hosts tell of.

    Args:
        endpoints: those of the topology, which the caller extends.
    """

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self._endpoints = endpoints
        self._is_proxied = False

    def hears(self, index: int, answer: Answer) -> None:
        """Note what an endpoint is about to be told to have answered."""
        endpoint = self._endpoints[index]
        before = endpoint.answer.own
        if endpoint.state is State.UP and before and answer.own and before != answer.own:
            self._is_proxied = True

    def changes(self) -> Changes:
        """Return what is to be changed, by the answers of all endpoints that are up.

        `new` has the addresses by the members' names.
        """
        endpoints = self._endpoints
        named: dict[str, str] = {}
        for endpoint in endpoints:
            if endpoint.state is State.UP and not self._is_proxied:
                named |= endpoint.answer.members
        here: dict[str, int] = {}
        for index, endpoint in enumerate(endpoints):
            if endpoint.answer.own and not endpoint.left:
                here.setdefault(endpoint.answer.own, index)
        left, back = [], []
        for index, endpoint in enumerate(endpoints):
            if endpoint.listed:
                continue
            is_double = here.get(endpoint.answer.own, index) < index
            is_member = endpoint.name in named.values() and not is_double
            if not endpoint.left and not is_member and endpoint.state is not State.DRAINING:
                left.append(index)
            elif endpoint.left and is_member:
                back.append(index)
        if any(endpoint.listed and endpoint.told_at == -FOREVER for endpoint in endpoints):
            return Changes({}, left, back)
        names = {endpoint.name for endpoint in endpoints}
        new = {own: address for own, address in named.items() if own not in here and address not in names}
        return Changes(new, left, back)
