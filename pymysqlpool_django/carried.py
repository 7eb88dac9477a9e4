"""A visitor's reads from the replica see what the visitor's earlier requests have written.

    MIDDLEWARE = ["pymysqlpool_django.carried.CarryCommitsMiddleware", ...]  # before all that write

The position of a request's last commit travels in a cookie, signed by SECRET_KEY, with the flags of the session cookie;
see `pymysqlpool.carried_commits`. Off unless the middleware is there.

Never: changes where a query goes (`routers` does), reads a body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest, HttpResponse

from pymysqlpool import SettingsError
from pymysqlpool.carried_commits import CarriedCommits, CommitCookie
from pymysqlpool.cluster import Cluster
from pymysqlpool.secrets import Secret

from . import writes


class CarryCommitsMiddleware:
    """For synchronous and asynchronous sites. Subclass it for another alias, or another carrier::

        class ForTheApi(CarryCommitsMiddleware):
            def carrier(self):
                return CommitHeader(settings.SECRET_KEY)

    Attributes:
        primary: the alias whose cluster's commits are carried.
    """

    sync_capable = True  #: for Django
    async_capable = True  #: for Django
    primary: str = "default"

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async: bool = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        try:
            self._carries = self.carrier()
        except SettingsError as error:
            raise ImproperlyConfigured(f"{type(self).__name__}: {error}") from error

    def carrier(self) -> CarriedCommits:
        """Return what carries the position; called once."""
        same_site: Any = (settings.SESSION_COOKIE_SAMESITE or "Lax").title()  # Django takes any case
        return CommitCookie(
            [Secret(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)],
            secure=settings.SESSION_COOKIE_SECURE,
            same_site=same_site,
            path=settings.SESSION_COOKIE_PATH,
            domain=settings.SESSION_COOKIE_DOMAIN,
        )

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if self.is_async:
            return self._answer(request)
        self._receive(request)
        response = cast(HttpResponse, self.get_response(request))
        self._send(response)
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        self._receive(request)
        response = await self.get_response(request)
        await sync_to_async(self._send)(response)  # in the thread of the request's connections
        return cast(HttpResponse, response)

    def _receive(self, request: HttpRequest) -> None:
        said = request.headers.get(self._carries.request_header)
        cluster = self._cluster()
        token = self._carries.read(cluster.name, said)
        if token is not None:
            writes.carry(cluster, token)

    def _send(self, response: HttpResponse) -> None:
        cluster = self._cluster()
        token = writes.last_commit(cluster)
        if token is None:
            return
        name, value = self._carries.header(cluster.name, token)
        if isinstance(self._carries, CommitCookie):
            response.cookies.load(value)
        else:
            response[name] = value

    def _cluster(self) -> Cluster:
        """The cluster of the alias.

        Raises:
            ImproperlyConfigured: it has none.
        """
        cluster: Cluster | None = getattr(getattr(connections[self.primary], "pool", None), "cluster", None)
        if cluster is None:
            raise ImproperlyConfigured(
                f"{type(self).__name__} needs OPTIONS['pool']['hosts'] in DATABASES[{self.primary!r}]: one server has "
                "all that was committed."
            )
        return cluster
