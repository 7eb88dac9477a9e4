"""Run cases: `python -m benchmarks select1 contention --quick --json results.json`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path

from . import cases, measure
from .bench import Bench
from .measure import Result

# In the order of a full run.
ORDER = (
    "borrow_return",
    "select1",
    "large_results",
    "statements",
    "connect",
    "handover",
    "contention",
    "growth",
    "memory",
    "imports",
    "recovery",
    "storms",
    "web_flask",
    "web_django",
    "web_asgi",
    "asyncio_tasks",
)


def main() -> int:
    found = {module.name for module in pkgutil.iter_modules(cases.__path__)}
    assert found == set(ORDER), f"ORDER and the files in cases/ differ: {found ^ set(ORDER)}"
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("case", nargs="+", choices=[*ORDER, "all"], metavar="case", help=f"{', '.join(ORDER)}, or all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs, not to be quoted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results to this file")
    parser.add_argument("--no-pin", action="store_true", help="do not keep client and server on one CPU")
    given = parser.parse_args()
    chosen = ORDER if "all" in given.case else [case for case in ORDER if case in given.case]
    with Bench(quick=given.quick, pin=not given.no_pin) as bench:
        noisy: list[str] = []  # cases
        unsteady: list[str] = []  # tables
        where = measure.surroundings(bench.server.version)
        print(f"{where['python']}, {where['server']}, {where['cpu']}, commit {where['commit']}, load {where['load']}")
        for case in chosen:
            noise = measure.other_work()
            if noise:
                noisy.append(case)
                print(f"\n{noise}", flush=True)
            bench.was_pinned = False
            module = importlib.import_module(f"{cases.__name__}.{case}")
            print(f"\n== {case}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
            started = time.monotonic()
            tables = module.run(bench)
            for table in tables:
                print(f"\n{table.text()}", flush=True)
            unsteady += [table.key for table in tables if measure.UNSTEADY in table.note]
            result = Result(case, bench.quick, bench.was_pinned, round(time.monotonic() - started, 1), tables)
            if given.json:
                measure.write(given.json, where, [result])
    if noisy or unsteady:
        print("\nThis machine was not quiet. Do not quote these figures:")
        print(f"  other work at the start of: {', '.join(noisy) or 'none'}")
        print(f"  times that spread widely: {', '.join(unsteady) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
