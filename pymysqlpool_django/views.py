"""Views to be mounted: the status page for staff, its numbers as JSON, and the metrics for Prometheus.

    path("pools/", pymysqlpool_django.views.status_page)
    path("pools.json", pymysqlpool_django.views.pool_status)
    path("metrics", pymysqlpool_django.views.metrics)

The page and the metrics cover all processes that share the folder PYMYSQLPOOL_BOARD (or `pymysqlpool` in
PROMETHEUS_MULTIPROC_DIR). Without a folder they cover, as the JSON does, the process that answers.

Never: shows a user or a password.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import NoReverseMatch, reverse
from django.utils.functional import lazy
from django.views.decorators.http import require_safe

from pymysqlpool import PoolStats, status
from pymysqlpool.stats import Histogram

from . import pools

_View = TypeVar("_View", bound=Callable[..., HttpResponse])


def as_dict(numbers: PoolStats) -> dict[str, Any]:
    """Return `numbers` with values that JSON can hold."""
    plain = {field.name: getattr(numbers, field.name) for field in fields(numbers)}
    plain["discarded"] = dict(numbers.discarded)
    for name, value in plain.items():
        if isinstance(value, Histogram):
            plain[name] = {"counts": list(value.counts), "sum": value.sum}
    return plain


def _login() -> str:
    """The login of the admin; on a site without one, LOGIN_URL."""
    try:
        return reverse("admin:login")
    except NoReverseMatch:
        return str(settings.LOGIN_URL)


def _for_staff(view: _View) -> _View:
    """Show `view` to staff; send others to the login."""
    login_url: Any = lazy(_login, str)()  # the URLs are not loaded yet
    return staff_member_required(view, login_url=login_url)


@_for_staff
def pool_status(request: HttpRequest) -> JsonResponse:
    """Return the numbers of the pools of the process that answers, as JSON."""
    by_alias = {alias: [as_dict(one) for one in several] for alias, several in pools.stats().items()}
    return JsonResponse({"process": os.getpid(), "pools": by_alias})


@require_safe
@_for_staff
def status_page(request: HttpRequest) -> HttpResponse:
    """Return the status page of all processes: HTML without JavaScript, for staff."""
    return _response(status.page())


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics for Prometheus. Unprotected: let your proxy restrict it. Needs `prometheus-client`."""
    from pymysqlpool.prometheus import metrics_page  # an extra

    return _response(metrics_page())


def _response(answer: status.Answer) -> HttpResponse:
    kind, body = answer
    return HttpResponse(body, content_type=kind, headers=status.HEADERS)


status.publish()  # where the environment names a folder: from the first request on, as soon as the URLs are loaded
