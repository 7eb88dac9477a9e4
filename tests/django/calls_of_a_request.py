"""For `test_call_counts`: the Python functions that a request with one query calls, with the backend that argv names.

In a process of its own, because Django's own backend needs PyMySQL in the place of MySQLdb.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter

from benchmarks.cases.web_django import application
from benchmarks.cases.web_flask import requests
from tests.core.test_call_counts import calls


def main(backend: str, connect: str) -> None:
    logging.disable()
    serve = requests(application(backend, json.loads(connect)))
    found: Counter[str] = min((calls(lambda: serve(1)) for _ in range(5)), key=Counter.total)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
