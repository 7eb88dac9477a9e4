"""One view: the numbers of the pools in the process that answers, as JSON, for staff.

path("pools/", pymysqlpool_django.views.pool_status)
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, JsonResponse

from pymysqlpool import PoolStats

from . import pools


def as_dict(numbers: PoolStats) -> dict[str, Any]:
    """`numbers` with what JSON can hold."""
    plain = {field.name: getattr(numbers, field.name) for field in fields(numbers)}
    plain["discarded"] = dict(numbers.discarded)
    return plain


@staff_member_required
def pool_status(request: HttpRequest) -> JsonResponse:
    """Every process has pools of its own; this shows those of the one that happens to answer."""
    by_alias = {alias: [as_dict(one) for one in several] for alias, several in pools.stats().items()}
    return JsonResponse({"process": os.getpid(), "pools": by_alias})
