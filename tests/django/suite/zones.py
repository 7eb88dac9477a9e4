"""Time zones for the server, from Python's own: CONVERT_TZ() with names needs them, and Django's tests need that.

The server's tool for it is not part of every installation, so this fills the four tables directly.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pymysql.connections import Connection

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2037, 12, 31, tzinfo=UTC)
_STEP = timedelta(days=14)  # no zone changes twice within it

Kind = tuple[int, bool, str]  # offset in seconds, summer time, abbreviation


def load(connection: Connection[Any]) -> int:
    """Fill the server's time zone tables; returns the number of zones."""
    zones, names, kinds, transitions = [], [], [], []
    available = sorted(zoneinfo.available_timezones())
    for number, name in enumerate(available, 1):
        zones.append((number, "N"))
        names.append((name, number))
        seen: dict[Kind, int] = {}
        for moment, kind in _changes(zoneinfo.ZoneInfo(name)):
            if kind not in seen:
                seen[kind] = len(seen)
                kinds.append((number, seen[kind], kind[0], int(kind[1]), kind[2][:8]))
            if moment is not None:
                transitions.append((number, int(moment.timestamp()), seen[kind]))
    with connection.cursor() as cursor:
        cursor.execute("USE mysql")
        for table, rows in (
            ("time_zone (Time_zone_id, Use_leap_seconds)", zones),
            ("time_zone_name (Name, Time_zone_id)", names),
            ("time_zone_transition_type (Time_zone_id, Transition_type_id, `Offset`, Is_DST, Abbreviation)", kinds),
            ("time_zone_transition (Time_zone_id, Transition_time, Transition_type_id)", transitions),
        ):
            marks = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    connection.commit()
    return len(available)


def _changes(zone: zoneinfo.ZoneInfo) -> Iterator[tuple[datetime | None, Kind]]:
    """What holds at first (without a moment), and from when on something else does."""
    at = _FIRST
    kind = _kind(zone, at)
    yield None, kind
    while at < _LAST:
        later = at + _STEP
        if _kind(zone, later) != kind:
            before, after = at, later
            while after - before > timedelta(seconds=1):
                middle = before + (after - before) // 2
                middle = middle.replace(microsecond=0)
                if middle in (before, after):
                    break
                if _kind(zone, middle) == kind:
                    before = middle
                else:
                    after = middle
            kind = _kind(zone, after)
            yield after, kind
        at = later


def _kind(zone: zoneinfo.ZoneInfo, at: datetime) -> Kind:
    local = at.astimezone(zone)
    offset, summer = local.utcoffset(), local.dst()
    return int(offset.total_seconds()) if offset else 0, bool(summer), local.tzname() or ""
