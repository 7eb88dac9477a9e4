"""Which words may stand before a parenthesis and run no stored code, by server and version.

Owns: the lists. A native function wins over a stored function and a loadable one of the same name, unless the name is
qualified or something stands between it and the parenthesis (MySQL 9 Reference Manual, 11.2.5, "Function Name Parsing
and Resolution"); what is native differs by server and version, and where it is not, a stored function of that name may
exist. Never: a function that changes or locks anything of the session, or that reads what an earlier
statement left in it and takes it away.

`tests/core/test_native_functions.py` makes a stored function under each of these names and calls it, on the server
that the tests run on: it must not run.

Sources: MySQL 9 Reference Manual, 11.3 "Keywords and Reserved Words", 14.1 "Built-In Function and Operator
Reference"; MySQL 9.6 release notes (md5, sha1 and sha left the server); MariaDB Knowledge Base, "Reserved Words",
"Functions and Operators".
"""

from __future__ import annotations

from functools import cache

Version = tuple[int, ...]

# Reserved, or read by the grammar as something else than a call wherever it may stand before a parenthesis.
KEYWORDS = frozenset(
    (
        b"select from where and or not in exists values on using by partition all distinct as"
        b" when then else case between like having limit union except intersect is null"
        b" key index unique primary references check default xor div mod"
        b" cross inner left right natural join straight_join order group over window"
        b" interval with into set update regexp rlike binary char insert replace if add column match"
        b" any some value row decimal"
    ).split()
)
# Before a parenthesis in a type: after AS in CAST, in the definition of a column.
TYPES = frozenset(
    (
        b"int integer tinyint smallint mediumint bigint decimal numeric float double char varchar binary varbinary"
        b" datetime timestamp time date year bit enum set text blob signed unsigned nchar nvarchar character dec fixed"
        b" real vector"
    ).split()
)

_OF_ALL = (
    b"count sum avg min max std stddev stddev_pop stddev_samp variance var_pop var_samp bit_and bit_or bit_xor"
    b" group_concat"
    b" coalesce ifnull nullif if isnull greatest least cast convert strcmp field elt make_set export_set interval"
    b" abs ceil ceiling floor round truncate sign sqrt pow power exp ln log log2 log10 pi rand crc32 conv mod"
    b" sin cos tan cot asin acos atan atan2 degrees radians"
    b" concat concat_ws substr substring substring_index mid left right length char_length character_length char"
    b" octet_length bit_length lower lcase upper ucase trim ltrim rtrim lpad rpad repeat replace reverse insert"
    b" instr locate position space ascii ord hex unhex bin oct format quote soundex find_in_set"
    b" now current_timestamp curdate current_date curtime current_time localtime localtimestamp sysdate"
    b" utc_date utc_time utc_timestamp unix_timestamp from_unixtime date_add date_sub adddate subdate addtime"
    b" subtime datediff timediff timestampadd timestampdiff date_format time_format str_to_date get_format"
    b" makedate maketime day dayofmonth dayname dayofweek dayofyear month monthname quarter week weekday date time"
    b" timestamp year weekofyear yearweek hour minute second microsecond extract last_day to_days from_days"
    b" to_seconds time_to_sec sec_to_time period_add period_diff convert_tz"
    b" sha2 aes_encrypt aes_decrypt compress uncompress uncompressed_length uuid uuid_short inet_aton inet_ntoa"
    b" version database schema user current_user session_user system_user connection_id row_count found_rows"
    b" last_insert_id charset collation coercibility sleep benchmark is_used_lock is_free_lock values"
    b" bit_count name_const"
)

# Native since these versions: of MySQL, of MariaDB (None: it has none, and a stored function may be named so).
_SINCE: tuple[tuple[Version | None, Version | None, bytes], ...] = (
    ((5, 6), (10, 2), _OF_ALL),
    ((5, 6), (10, 2), b"to_base64 from_base64 weight_string inet6_aton inet6_ntoa is_ipv4 is_ipv6"),
    ((5, 6), (10, 2), b"md5 sha sha1"),
    ((5, 7), (10, 2), b"st_astext st_asbinary st_geomfromtext st_geomfromwkb st_x st_y st_distance st_contains"),
    ((5, 7), (10, 2), b"st_within st_intersects st_srid st_asgeojson mbrcontains"),
    ((5, 7, 8), (10, 2, 3), b"json_extract json_unquote json_object json_array json_contains json_contains_path"),
    ((5, 7, 8), (10, 2, 3), b"json_keys json_length json_set json_insert json_replace json_remove json_search"),
    ((5, 7, 8), (10, 2, 3), b"json_type json_valid json_quote json_array_append json_array_insert json_depth"),
    ((5, 7, 22), (10, 5), b"json_arrayagg json_objectagg"),
    ((5, 7, 22), (10, 4), b"json_merge_patch json_merge_preserve"),
    ((5, 7, 6), (10, 6), b"st_distance_sphere"),
    ((8, 0), (10, 2), b"row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value"),
    ((8, 0), (10, 2), b"nth_value"),
    ((8, 0, 4), (10, 2), b"regexp_replace regexp_instr regexp_substr"),
    ((8, 0, 17), (10, 9), b"json_overlaps"),
    ((8, 0, 21), (10, 2, 3), b"json_value"),
    ((5, 7, 22), (10, 11), b"json_pretty"),
    ((5, 6, 17), (10, 10), b"random_bytes"),
    ((5, 7, 5), None, b"any_value point"),
    ((8, 0, 4), None, b"regexp_like uuid_to_bin bin_to_uuid is_uuid grouping"),
    (None, (10, 3, 3), b"percentile_cont percentile_disc median"),
    (None, (10, 2), b"json_query json_exists json_detailed json_loose json_compact nvl nvl2 chr"),
    (None, (10, 8), b"natural_sort_key"),
)
_LEFT_MYSQL = ((9, 6), frozenset(b"md5 sha sha1".split()))


@cache
def native_functions(version: Version, is_mariadb: bool) -> frozenset[bytes]:
    """The native functions of a server that may be called without a trace. All others may be stored code."""
    found: set[bytes] = set()
    for mysql, mariadb, names in _SINCE:
        since = mariadb if is_mariadb else mysql
        if since is not None and version >= since:
            found.update(names.split())
    since, gone = _LEFT_MYSQL
    if not is_mariadb and version >= since:
        found -= gone
    return frozenset(found)
