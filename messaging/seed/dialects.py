"""What the two databases spell differently, for the statements that make history."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """Each turns texts of SQL into one."""

    numbers: Callable[[int, int], str]  # n from the first to before the second
    time: Callable[[str], str]  # of seconds since 1970
    later: Callable[[str, str], str]  # a time and so many seconds
    milliseconds: Callable[[str], str]  # since 1970, of a time
    hex: Callable[[str, int], str]  # a number in so many digits
    id: Callable[[str], str]
    bytes: Callable[[str], str]
    digest: str  # 16 bytes
    json: Callable[[str], str]
    minute: Callable[[str], str]


DIALECTS = {
    "postgresql": Dialect(
        numbers=lambda low, high: f"SELECT n FROM generate_series({low}::bigint, {high - 1}::bigint) AS n",
        time=lambda at: f"to_timestamp({at})",
        later=lambda time, s: f"({time} + ({s}) * interval '1 second')",
        milliseconds=lambda time: f"(extract(epoch FROM {time}) * 1000)::bigint",
        hex=lambda n, digits: f"lpad(to_hex(({n})::bigint), {digits}, '0')",
        id=lambda text: f"({text})::uuid",
        bytes=lambda text: f"convert_to({text}, 'UTF8')",
        digest="decode(md5(j::text), 'hex')",
        json=lambda text: f"({text})::jsonb",
        minute=lambda time: f"date_trunc('minute', {time})",
    ),
    "sqlite": Dialect(
        numbers=lambda low, high: f"SELECT {low} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {high}",
        time=lambda at: f"strftime('%Y-%m-%d %H:%M:%f', {at}, 'unixepoch') || '000'",
        later=lambda time, s: f"(strftime('%Y-%m-%d %H:%M:%f', {time}, ({s}) || ' seconds') || '000')",
        milliseconds=lambda time: f"CAST((julianday({time}) - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)",
        hex=lambda n, digits: f"printf('%0{digits}x', {n})",
        id=lambda text: text,
        bytes=lambda text: f"CAST({text} AS BLOB)",
        digest="randomblob(16)",
        json=lambda text: text,
        minute=lambda time: f"substr({time}, 1, 16) || ':00'",
    ),
}
