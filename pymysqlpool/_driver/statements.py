"""What a statement may do to its session, read from its text, conservatively.

`read(sql)` answers with the marks below. `NOTHING` means: whatever it does to the session, the server says so in its
reply (transaction and autocommit in the status flags, LAST_INSERT_ID in the OK packet, variables, temporary tables
and prepared statements in the session tracker). Everything that the reply cannot show, or that this file does not
know to be harmless, is `STATE`: the session must be reset before somebody else gets it. A false alarm costs a round
trip, a miss would cost somebody's privacy; so unknown is always `STATE`.

What no reading of the text can see is stored code behind a harmless name: a view or a trigger that calls
GET_LOCK(), or a view whose function sets a user variable. `reset="always"` is for databases that have such.

Sources: MySQL 9 Reference Manual, "SQL Statements" (15) and "Functions and Operators" (14); MariaDB Knowledge Base,
"SQL Statements". This file knows SQL words and nothing of connections.
"""

from __future__ import annotations

import re
from typing import Final

# The marks. Plain integers, not an IntFlag: they are combined on every statement, and IntFlag's operators are slow.
NOTHING: Final = 0
TRANSACTION: Final = 1  # one may be open
INSERT_ID: Final = 2  # LAST_INSERT_ID() may be set
AUTOCOMMIT: Final = 4  # autocommit is changed, and nothing else
DATABASE: Final = 8  # the current database may be another
WROTE: Final = 32  # rows were changed in the open transaction; nothing to undo beyond that
STATE: Final = 16  # anything else: only COM_RESET_CONNECTION brings it back

# Statements whose effects the reply shows, or that have none on the session.
_HARMLESS = frozenset(
    b"select insert update delete replace with values table show describe desc explain analyze"
    b" begin start commit rollback savepoint release do truncate rename load optimize check grant revoke".split()
)
_DEFINING = frozenset(b"create alter drop".split())

# Words that may stand before a parenthesis without being a call of stored code: keywords and built-in functions
# that read nothing of the session but its clock, character set and time zone, and change nothing.
_SAFE_BEFORE_PARENTHESIS = frozenset(
    (
        b"select from where and or not in exists values value on using join as by over partition all any some"
        b" when then else case between like set having limit offset union except intersect is null distinct"
        b" key index unique primary references interval with recursive into check default xor div mod return"
        b" cross inner left right natural outer straight_join order group rollup window rows range for of"
        b" int integer tinyint smallint mediumint bigint decimal numeric float double char varchar binary varbinary"
        b" datetime timestamp time date year bit enum text blob signed unsigned json"
        b" count sum avg min max std stddev stddev_pop stddev_samp variance var_pop var_samp bit_and bit_or bit_xor"
        b" group_concat json_arrayagg json_objectagg any_value"
        b" row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value"
        b" coalesce ifnull nullif if isnull greatest least cast convert strcmp field elt make_set export_set"
        b" abs ceil ceiling floor round truncate sign sqrt pow power exp ln log log2 log10 pi rand crc32 conv"
        b" sin cos tan cot asin acos atan atan2 degrees radians"
        b" concat concat_ws substr substring substring_index mid left right length char_length character_length"
        b" octet_length bit_length lower lcase upper ucase trim ltrim rtrim lpad rpad repeat replace reverse insert"
        b" instr locate position space ascii ord hex unhex bin oct format quote soundex to_base64 from_base64"
        b" regexp_like regexp_replace regexp_instr regexp_substr find_in_set weight_string match against"
        b" now current_timestamp curdate current_date curtime current_time localtime localtimestamp sysdate"
        b" utc_date utc_time utc_timestamp unix_timestamp from_unixtime date_add date_sub adddate subdate addtime"
        b" subtime datediff timediff timestampadd timestampdiff date_format time_format str_to_date get_format"
        b" makedate maketime day dayofmonth dayname dayofweek dayofyear month monthname quarter week weekday"
        b" weekofyear yearweek hour minute second microsecond extract last_day to_days from_days to_seconds"
        b" time_to_sec sec_to_time period_add period_diff convert_tz"
        b" md5 sha sha1 sha2 aes_encrypt aes_decrypt random_bytes compress uncompress uuid uuid_to_bin bin_to_uuid"
        b" uuid_short is_uuid inet_aton inet_ntoa inet6_aton inet6_ntoa is_ipv4 is_ipv6"
        b" json_extract json_unquote json_object json_array json_contains json_contains_path json_keys json_length"
        b" json_set json_insert json_replace json_remove json_merge_patch json_merge_preserve json_search json_type"
        b" json_valid json_value json_quote json_table json_overlaps json_array_append json_array_insert"
        b" json_depth json_pretty"
        b" version database schema user current_user session_user system_user connection_id row_count found_rows"
        b" charset collation coercibility sleep benchmark grouping is_used_lock is_free_lock"
        b" st_astext st_asbinary st_asgeojson st_geomfromtext st_geomfromwkb st_x st_y st_distance"
        b" st_distance_sphere st_contains st_within st_intersects st_srid st_makeenvelope point mbrcontains"
    ).split()
)

_LEADING = re.compile(rb"(?:\s+|\(|--[ \t][^\n]*(?:\n|$)|\#[^\n]*(?:\n|$)|/\*(?![!M]).*?\*/)*([a-z_]+)", re.I | re.S)
_OPAQUE = re.compile(rb"'[^']*'|\"[^\"]*\"|`[^`]*`|/\*.*?\*/|--[ \t][^\n]*|\#[^\n]*", re.S)
_CALL = re.compile(rb"([\w$]+|`)\s*\((?!(?<=last_insert_id\()\))", re.I)
_TARGET_LIST = re.compile(rb"\binto\s+(?:[\w$]+|`)(?:\s*\.\s*(?:[\w$]+|`))?\s*\(", re.I)
_SET_AUTOCOMMIT = re.compile(rb"\s*set\s+(?:session\s+|@@)?autocommit\s*=\s*(?:[01]|on|off|true|false)\s*;?\s*$", re.I)
_HIDDEN = (b"@", b";", b"(", b"/*!", b"/*M!")

_STANDS_FOR = {b"'": b"?", b'"': b"`", b"`": b"`"}
_NEXT_VALUE = re.compile(rb"\bvalue\s+for\b", re.I)  # MariaDB sequences: PREVIOUS VALUE FOR is session state

_LONGEST_READ = 64 * 1024  # a longer statement is not read: a reset is cheap beside sending it
_cache: dict[bytes, int] = {}
_CACHED_STATEMENTS = 1024
_CACHED_LENGTH = 512


def read(sql: bytes) -> int:
    """What `sql`, one COM_QUERY, may do to the session beyond what its reply will show."""
    sql = bytes(sql)  # a bytearray when it comes from executemany()
    known = _cache.get(sql)
    if known is not None:
        return known
    effect = _read(sql)
    if len(sql) <= _CACHED_LENGTH:
        if len(_cache) >= _CACHED_STATEMENTS:
            _cache.clear()
        _cache[sql] = effect
    return effect


def _read(sql: bytes) -> int:
    leading = _LEADING.match(sql)
    if leading is None:
        return STATE
    word = leading.group(1).lower()
    if word == b"set":
        return AUTOCOMMIT if _SET_AUTOCOMMIT.match(sql) else STATE
    if word == b"use":
        return STATE if b";" in sql.rstrip(b"; \t\r\n") else DATABASE
    if word in _DEFINING:
        return STATE if _defines_session_state(sql) else _hidden(sql)
    if word not in _HARMLESS:
        return STATE
    effect = _hidden(sql)
    if word in (b"insert", b"replace") and b"returning" in sql.lower():
        effect |= INSERT_ID  # MariaDB: the reply is a result set, which carries no insert id
    return effect


def _defines_session_state(sql: bytes) -> bool:
    text = sql[:4096].lower()
    return b"temporary" in text or b"database" in text or b"schema" in text


def _hidden(sql: bytes) -> int:
    """STATE when something in the text of a harmless kind of statement is not known to be harmless."""
    if not any(token in sql for token in _HIDDEN):
        return NOTHING
    if len(sql) > _LONGEST_READ or b"/*!" in sql or b"/*M!" in sql:
        return STATE
    if b"\\" in sql:
        return STATE  # whether it escapes a quote depends on sql_mode and character set: trust no quote at all
    text = _OPAQUE.sub(_opaque, sql)
    if b"@" in text.replace(b"@@", b"") or b"'" in text or _NEXT_VALUE.search(text):
        return STATE
    if b";" in text.rstrip(b"; \t\r\n"):
        return STATE
    for call in _CALL.finditer(_TARGET_LIST.sub(b"into (", text)):
        if call.group(1).lower() not in _SAFE_BEFORE_PARENTHESIS:
            return STATE
    return NOTHING


def _opaque(found: re.Match[bytes]) -> bytes:
    """What stands for a string, a quoted name or a comment. A name in quotes may be called like any other."""
    return _STANDS_FOR.get(found.group()[:1], b" ")
