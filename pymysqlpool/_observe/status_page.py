"""The status page: what `board.all_processes` returns, as HTML.

One document without JavaScript that reloads itself; it follows the reader's light or dark theme and the width of the
screen. All text from outside is escaped.

Never: shows a user, a password, or the text of a server's error.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from time import time
from typing import Any

from ..metrics import BOUNDS

REFRESH = 5  # seconds
_EVENTS_SHOWN = 12
_HOLDERS_SHOWN = 50
_WIDTH, _HEIGHT = 600, 80  # of a curve

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6775; --paper: #f4f6f8; --card: #fff; --line: #d9dfe6;
        --used: #1f6feb; --idle: #9db7d5; --wait: #c9510c; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ef; --soft: #98a4b3; --paper: #12171d; --card: #1b222b; --line: #313b47;
          --used: #58a6ff; --idle: #3d5470; --wait: #f0883e; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.25rem; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: 0 1rem; }
h1 { font-size: 1.15rem; margin: 0; } h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
h3 { font-size: .8rem; margin: 1.25rem 0 .35rem; color: var(--soft); font-weight: 600; }
p { margin: .25rem 0; color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem;
          margin-top: 1rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .6rem 1rem; margin: 0; }
.numbers div { min-width: 0; } dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dd.bad { color: var(--bad); } dd small { font-size: .8rem; font-weight: 400; color: var(--soft); }
.bar { display: flex; height: .6rem; border-radius: .3rem; overflow: hidden; background: var(--line); margin: .9rem 0; }
.bar .used { background: var(--used); } .bar .idle { background: var(--idle); }
svg { display: block; width: 100%; height: 5rem; } .key { font-size: .8rem; color: var(--soft); }
.key b { font-weight: 600; } .key .u { color: var(--used); } .key .w { color: var(--wait); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th { text-align: left; white-space: nowrap; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; } td.w { white-space: pre-wrap; }
tr:last-child td { border-bottom: 0; }
@media (max-width: 36rem) {
  body { padding: .75rem; } section { padding: .85rem; } thead { display: none; }
  table, tbody, tr, td { display: block; } td { border: 0; padding: 0; } tr { padding: .5rem 0;
  border-bottom: 1px solid var(--line); } tr:last-child { border: 0; }
  td[data-name]::before { content: attr(data-name) ": "; color: var(--soft); } }
"""


def render(processes: list[dict[str, Any]]) -> str:
    """Return the page for `processes`, as `all_processes` returns them."""
    alive = [process for process in processes if process["alive"]]
    labels = sorted({pool["label"] for process in alive for pool in process["pools"]})
    sections = "".join(_section(label, processes) for label in labels) or (
        "<section><p>No process that runs has a pool yet.</p></section>"
    )
    pids = ", ".join(str(process["pid"]) for process in alive)
    now = _clock(time())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Connection pools</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f'<meta http-equiv="refresh" content="{REFRESH}"><style>{_STYLE}</style></head><body>'
        f"<header><h1>Connection pools</h1><p>{now} UTC</p></header>"
        f"<main><p>{_many(len(alive), 'process', 'processes')}: {pids}</p>{sections}</main></body></html>"
    )


def _section(label: str, processes: list[dict[str, Any]]) -> str:
    """One pool, over all processes."""
    all_of_it = [(process, pool) for process in processes for pool in process["pools"] if pool["label"] == label]
    living = [(process, pool) for process, pool in all_of_it if process["alive"]]
    now = {name: sum(pool[name] for _, pool in living) for name in ("in_use", "idle", "waiting", "maxsize")}
    counted = {
        name: sum(pool[name] for _, pool in all_of_it)
        for name in ("borrowed", "timeouts", "rejected", "connect_errors", "leaked", "created")
    }
    numbers = "".join(
        (
            _number("in use", now["in_use"], f"of {now['maxsize']}"),
            _number("idle", now["idle"]),
            _number("waiting", now["waiting"], is_bad=now["waiting"] > 0),
            _number("lent", counted["borrowed"]),
            _number("made", counted["created"]),
            _number("timeouts", counted["timeouts"], is_bad=counted["timeouts"] > 0),
            _number("refused", counted["rejected"], is_bad=counted["rejected"] > 0),
            _number("connect errors", counted["connect_errors"], is_bad=counted["connect_errors"] > 0),
            _number("leaked", counted["leaked"], is_bad=counted["leaked"] > 0),
            _number("wait, 99 of 100", _quantile([pool["wait"]["counts"] for _, pool in all_of_it])),
            _number("use, 99 of 100", _quantile([pool["use"]["counts"] for _, pool in all_of_it])),
            _number("connect, 99 of 100", _quantile([pool["create"]["counts"] for _, pool in all_of_it])),
        )
    )
    return (
        f"<section><h2>{escape(label)}</h2><dl class=numbers>{numbers}</dl>{_bar(now)}"
        f"{_curve([pool.get('curve', []) for _, pool in living])}"
        f"{_borrowers(living)}{_discards([pool['discarded'] for _, pool in all_of_it])}{_events(all_of_it)}</section>"
    )


def _number(name: str, value: object, beside: str = "", is_bad: bool = False) -> str:
    shown = f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isinstance(value, int) else escape(str(value))
    small = f" <small>{escape(beside)}</small>" if beside else ""
    return f"<div><dt>{escape(name)}</dt><dd{' class=bad' if is_bad else ''}>{shown}{small}</dd></div>"


def _quantile(several: list[list[int]]) -> str:
    """Return the bound that 99 % stay below, as text."""
    counts = [sum(column) for column in zip(*several, strict=True)]
    wanted = sum(counts) * 0.99
    if not wanted:
        return "\N{EN DASH}"
    so_far = 0
    for bound, number in zip(BOUNDS, counts, strict=False):
        so_far += number
        if so_far >= wanted:
            return (
                f"\N{LESS-THAN OR EQUAL TO} {bound * 1000:g} ms"
                if bound < 1
                else f"\N{LESS-THAN OR EQUAL TO} {bound:g} s"
            )
    return f"> {BOUNDS[-1]:g} s"


def _bar(now: dict[str, int]) -> str:
    most = max(now["maxsize"], now["in_use"] + now["idle"], 1)
    parts = "".join(
        f'<span class={kind} style="width:{now[name] / most:.2%}"></span>'
        for kind, name in (("used", "in_use"), ("idle", "idle"))
    )
    return f'<div class=bar role=img aria-label="{now["in_use"]} of {most} in use, {now["idle"]} idle">{parts}</div>'


def _curve(several: list[list[list[int]]]) -> str:
    """A minute of all processes: each sample is a second, the newest at the right."""
    length = max(map(len, several), default=0)
    if length < 2:
        return ""
    added = [[0, 0] for _ in range(length)]
    for curve in several:
        for place, sample in enumerate(curve, length - len(curve)):
            added[place][0] += sample[0]
            added[place][1] += sample[1]
    top = max(max(map(max, added)), 1)
    lines = "".join(
        _line(kind, [sample[which] for sample in added], top) for which, kind in enumerate(("used", "wait"))
    )
    return (
        f'<h3>The last {_many(length, "second", "seconds")}</h3><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none" role="img" aria-label="in use and waiting, at most {top}">{lines}</svg>'
        f"<div class=key><b class=u>in use</b> and <b class=w>waiting</b>; the top is {top}</div>"
    )


def _line(kind: str, values: list[int], top: int) -> str:
    step = _WIDTH / (len(values) - 1)
    points = " ".join(
        f"{x * step:.1f},{_HEIGHT - 2 - value / top * (_HEIGHT - 4):.1f}" for x, value in enumerate(values)
    )
    return (
        f'<polyline points="{points}" fill="none" stroke="var(--{kind})" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/>'
    )


def _borrowers(living: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    held = [(one, process) for process, pool in living for one in pool.get("borrowers", [])]
    held.sort(key=lambda pair: -pair[0]["seconds"])
    rows = (
        (
            ("held for", "n", _span(one["seconds"])),
            ("by", "", f"{one['who']}, process {process['pid']}"),
            ("transaction", "", "open" if one["in_transaction"] else "none"),
            ("borrowed at", "w", one["where"].strip()),
        )
        for one, process in held[:_HOLDERS_SHOWN]
    )
    more = len(held) - _HOLDERS_SHOWN
    return _table("What holds connections", rows) + (f"<p>and {more} more</p>" if more > 0 else "")


def _discards(several: list[dict[str, int]]) -> str:
    reasons: dict[str, int] = {}
    for discarded in several:
        for reason, number in discarded.items():
            reasons[reason] = reasons.get(reason, 0) + number
    if not reasons:
        return ""
    ordered = sorted(reasons.items(), key=lambda pair: -pair[1])
    return _table("Connections closed, by reason", ((("reason", "", r), ("number", "n", str(n))) for r, n in ordered))


def _events(all_of_it: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    happened = [(one, process) for process, pool in all_of_it for one in pool.get("events", [])]
    happened.sort(key=lambda pair: -pair[0]["at"])
    return _table(
        "What happened lately",
        (
            (
                ("at", "n", _clock(one["at"])),
                ("event", "", f"{one['kind']}: {one['said']}"),
                ("process", "n", str(one.get("pid", process["pid"]))),
            )
            for one, process in happened[:_EVENTS_SHOWN]
        ),
    )


def _table(title: str, rows: Iterable[tuple[tuple[str, str, str], ...]]) -> str:
    """Each cell: the name of its column, a class, a text."""
    found = list(rows)
    if not found:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name, _, _ in found[0])
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{f' class={kind}' if kind else ''}{f' data-name={name!r}' if name else ''}>{escape(text)}</td>"
            for name, kind, text in row
        )
        + "</tr>"
        for row in found
    )
    return (
        f"<h3>{escape(title)}</h3><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _clock(at: float) -> str:
    day = int(at) % 86400
    return f"{day // 3600:02d}:{day // 60 % 60:02d}:{day % 60:02d}"


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _many(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
