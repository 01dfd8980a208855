"""`redis:` one command to a Redis endpoint; what may change something says `write: true`."""

import time
from typing import Any, ClassVar

from endpoints.transports.base import TransportError
from endpoints.transports.redis import RedisTransport
from testing.assertions.observation import Observation
from testing.document.kinds import BOOLEAN, VALUE, Field, Kind, ListOf, Shape, text
from testing.document.references import as_text
from testing.steps.asking import as_json, not_answered, speaker
from testing.steps.base import CannotRun, StepAction, Tools

# Those that change nothing and come back at once; whatever is not here asks for `write: true`.
READS_TEXT = (
    "GET MGET STRLEN GETRANGE GETBIT BITCOUNT BITPOS EXISTS TYPE TTL PTTL EXPIRETIME PEXPIRETIME SCAN RANDOMKEY DBSIZE "
    "HGET HMGET HGETALL HEXISTS HLEN HKEYS HVALS HSTRLEN HSCAN HRANDFIELD LLEN LRANGE LINDEX LPOS SCARD SISMEMBER "
    "SMISMEMBER SMEMBERS SRANDMEMBER SSCAN SINTER SINTERCARD SUNION SDIFF ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE "
    "ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE ZRANK ZREVRANK ZSCORE ZMSCORE ZLEXCOUNT ZSCAN ZINTERCARD XLEN XRANGE "
    "XREVRANGE XREAD XPENDING XINFO PFCOUNT GEOPOS GEODIST GEOHASH GEOSEARCH OBJECT INFO PING ECHO TIME "
    "LASTSAVE PUBSUB JSON.GET JSON.MGET JSON.TYPE BITFIELD_RO SORT_RO"
)
# MEMORY frees as well; and a script that only reads may still hold up the whole server.
READS = frozenset({*READS_TEXT.split(), "MEMORY USAGE"})
# Those that change what the next one on a shared connection would mean, never end, or run the server itself.
NEVER_TEXT = (
    "AUTH HELLO SELECT QUIT RESET CLIENT MULTI EXEC DISCARD WATCH UNWATCH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE "
    "PUNSUBSCRIBE SUNSUBSCRIBE MONITOR SYNC PSYNC REPLICAOF SLAVEOF FAILOVER SHUTDOWN DEBUG MODULE ACL CLUSTER CONFIG "
    "SAVE BGSAVE BGREWRITEAOF SWAPDB MIGRATE FLUSHALL KEYS READONLY READWRITE ASKING SCRIPT FUNCTION LATENCY"
)
NEVER = frozenset(NEVER_TEXT.split())


class RedisStep(StepAction):
    """`rows` are the items of the answer: of a list its own, of one value that one, of nothing none.

    `text` is a single text; of a JSON document in it, or of any other answer, `body.$` is read.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "command": Field(
                ListOf(VALUE, at_least=1, at_most=1000, or_one=True),
                "The command and its words; as one text it is split at spaces.",
                required=True,
            ),
            "write": Field(BOOLEAN, "Let it change something.", default=False),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("rows", "body", "text", "bytes", "size", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    def writes(self, params: Any) -> bool:
        return bool(params["write"])

    async def run(self, params: Any, tools: Tools) -> Observation:
        words = _words(params["command"])
        _check(words, write=params["write"])
        transport = await speaker(tools, params["system"], RedisTransport, "redis")
        started = time.perf_counter()
        try:
            answer = await transport.ask(words)
            seen = Observation(rows=_rows(answer), body=answer.encode() if isinstance(answer, str) else as_json(answer))
        except TransportError as exc:
            seen = not_answered(exc)
        seen.latency_ms = (time.perf_counter() - started) * 1000
        seen.request = {"command": words}
        return seen


def _words(command: list[Any]) -> list[str]:
    words = [as_text(word) for word in command]
    words = words[0].split() if len(words) == 1 else words
    if not words:
        raise CannotRun("the command is empty")
    return words


def _check(words: list[str], *, write: bool) -> None:
    name, with_next = words[0].upper(), " ".join(words[:2]).upper()
    if name in NEVER:
        raise CannotRun(f"{name} is not asked here: it is about the connection or the server, not about what is kept")
    if not write and READS.isdisjoint({name, with_next}):
        raise CannotRun(f"{name} may change something; say write: true")


def _rows(answer: Any) -> list[Any]:
    if answer is None:
        return []
    return answer if isinstance(answer, list) else [answer]
