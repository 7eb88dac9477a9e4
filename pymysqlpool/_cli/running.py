"""`status` and `drain`: show the pools of running processes, and request the renewal of their connections.

Both go through the folder that the processes share (`pymysqlpool.status`). Never: reaches into a process.
"""

from __future__ import annotations

import argparse
import sys

from .. import status as _status


def status(given: argparse.Namespace) -> int:
    print(_status.text(given.folder))
    return 0


def drain(given: argparse.Namespace) -> int:
    done = number = 0
    for done, number in _status.ask_for_drain(given.folder, given.pool).watch(given.timeout):
        print(f"{done} of {number} process{'es' * (number != 1)} renew their connections", flush=True)
    if done < number:
        print(f"error: {number - done} did not answer within {given.timeout:g} s", file=sys.stderr)
    elif not number:
        print("error: no running process publishes its pools there", file=sys.stderr)
    return 0 if number and done == number else 1
