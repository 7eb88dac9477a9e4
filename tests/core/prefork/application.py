"""A WSGI application on a pool that was used before the fork."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from .parent import Parent, ask, make_pool

pool = make_pool()
parent = Parent(pool)
look_after_the_children = parent.look_after_the_children


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**ask(pool), "before": parent.sessions}).encode()]
