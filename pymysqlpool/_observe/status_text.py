"""The numbers of processes as lines for a terminal, for `python -m pymysqlpool status`, `flask pool` and `poolstatus`.

Never: reads the board; the caller does.
"""

from __future__ import annotations

from typing import Any

from .._util.log import one_line

_HOLDERS_SHOWN = 10


def describe(processes: list[dict[str, Any]]) -> str:
    """Return a paragraph for each pool of each process, with the holders of its connections, the longest first. Without
    any pool the text is empty."""
    lines: list[str] = []
    for process in processes:
        for pool in process["pools"]:
            discarded = ", ".join(f"{reason} {number}" for reason, number in sorted(pool["discarded"].items()))
            lines += [
                f"process {process['pid']}  {pool['label']}",
                (
                    f"  now      {pool['in_use']} in use, {pool['idle']} idle, at most {pool['maxsize']}; "
                    f"{pool['waiting']} waiting"
                ),
                (
                    f"  counted  lent {pool['borrowed']}, made {pool['created']}, timeouts {pool['timeouts']}, refused "
                    f"{pool['rejected']}, connect errors {pool['connect_errors']}, leaked {pool['leaked']}"
                ),
                f"  closed   {discarded or 'none'}",
            ]
            lines += [
                f"  held     {one['seconds']:.1f} s by {one_line(one['who'])}, "
                f"{'in' if one['in_transaction'] else 'not in'} a transaction, borrowed at {one['where'].strip()}"
                for one in pool["borrowers"][:_HOLDERS_SHOWN]
            ]
    if not lines:
        return ""
    total = sum(pool["maxsize"] for process in processes for pool in process["pools"])
    lines.append(f"{len(processes)} process{'es' * (len(processes) != 1)} may have {total} connections at most")
    text = "\n".join(lines)
    return text.encode("utf-8", "backslashreplace").decode()  # the name of a file may have bytes that are no text
