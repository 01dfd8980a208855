"""What stands for one word of an error text: itself, or a placeholder for a number, an id, a time, a host."""

import re
from functools import lru_cache
from itertools import pairwise

ID, NUMBER, TIME, HOST, TEXT, NAME, EMAIL = "<id>", "<n>", "<time>", "<host>", "<text>", "<name>", "<email>"
PLACEHOLDERS = (ID, NUMBER, TIME, HOST, TEXT, NAME, EMAIL)


def listed(words: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(words.split())


# Words before a short number that names the cause.
NUMBERED = frozenset({"answered", "http", "status", "code", "errno", "sqlstate", "statuscode"})
KNOWN = listed("utf8 utf-8 utf-16 sha1 sha256 sha512 md5 x509 x.509 base64 oauth2 ipv4 ipv6 http2 h2 s3")
PROTOCOL = re.compile(r"(?:http|tls|ssl|tlsv|sslv)/?\d(?:[._]\d)?", re.IGNORECASE)
UNITS = listed(
    "ms s sec secs second seconds us µs ns min minute minutes h hour hours byte bytes kb kib mb mib gb gib %"
)
SUFFIXES = listed(
    "com net org io local localdomain internal intranet lan corp home example test invalid cloud dev app "
    "svc cluster de uk fr eu us ch at nl be it es pl se no dk fi cz pt jp cn in br au ca info biz"
)


NUMERIC = re.compile(r"[-+]?\d[\d.,_]*%?")
DIGITS = "0123456789"
TIMELIKE = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[\dT:.,Z+/-]*|\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?[Z+\d:-]*")
HEXLIKE = re.compile(r"(?:0x)?[0-9a-f]{8,}", re.IGNORECASE)
ADDRESS = re.compile(
    r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d+|/\d+)?|(?=[^:]*:[^:]*:)[0-9a-f:.]+(?:%\w+)?", re.IGNORECASE
)
PORT = re.compile(r"[\w.-]+:\d{1,5}")
SHORT = re.compile(r"\d{1,5}|[0-9A-Z]{5}")
OPAQUE, FRACTION = 16, 3  # letters alone are an id from so many on, when one of three changes case


# --- the shape of a text -------------------------------------------------------

# What holds digits, with one stand-in for all of a kind. Cheap, and texts of one cause mostly become one text by it:
# what follows is then remembered. Each alternative is tried at the start of a word only, and runs over it once.
VARYING = re.compile(
    r"\b(?:(?=[AaHhSsCcEe])(?P<kept>(?:[Aa]nswered|[Hh](?:ttp|TTP)(?:/\d(?:\.\d)?)?|[Ss]tatus|[Cc]ode|[Ee]rrno|SQLSTATE)"
    r"[^\w<]{0,4}(?=[A-Za-z]{0,5}\d)\w{1,6}(?!\w))"
    r"|(?=[0-9A-Fa-f])(?:(?<![^\"'>\n])(?P<status>[1-5]\d\d)(?= [A-Z])"
    r"|(?P<id>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?!\w))"
    r"|(?P<time>(?:\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)(?!\w))"
    r"|(?P<address>\d{1,3}(?:\.\d{1,3}){3}(?!\w)))"
    r"|(?P<word>[^\W\d]*+\d\w*+))"
    r"|(?P<coded>(?:_code|Code|_status|Status)[^\w<]{0,4}\d{1,5}(?!\w))"
)
STAND_INS = {"id": "a0a0a0a0", "time": "2000-01-01", "address": "10.0.0.0"}
ANY_NUMBER, ANY_MIXED = "000000", "a0a0"  # the first is too long for a number that names a cause
NAMED_SO = re.compile(r"[A-Za-z]{4,}\d|v\d")  # `psycopg2`


def shape(text: str) -> str:
    """Return `text` with a stand-in for every number, id, time and address."""
    return VARYING.sub(_stand_in, text)


def _stand_in(found: re.Match[str]) -> str:
    kind, word = found.lastgroup or "", found.group()
    if kind in STAND_INS:
        return STAND_INS[kind]
    if kind != "word":
        return word
    if word.isdigit() or word.lstrip(DIGITS).lower() in UNITS:
        return ANY_NUMBER
    is_name = word.lower() in KNOWN or NAMED_SO.fullmatch(word) or PROTOCOL.fullmatch(word)
    return word if is_name else ANY_MIXED


# --- a word --------------------------------------------------------------------


def word_of(word: str, last: str) -> str:
    """Return what stands for one word; `last` is the one before it."""
    if last in NUMBERED and SHORT.fullmatch(word):
        return word
    return _plain(word)


@lru_cache(maxsize=8192)
def _plain(word: str) -> str:
    lower = word.lower()
    if lower in KNOWN or PROTOCOL.fullmatch(word):
        return word
    for stands_for, applies in KINDS:
        if applies(word):
            return stands_for
    if "/" in word or "\\" in word:
        return _path(word)
    if any(letter.isdigit() for letter in word) and not _is_class(word):
        name, colon, number = word.rpartition(":")
        return word if colon and name.lower() in NUMBERED and SHORT.fullmatch(number) else ID
    return word


def _path(word: str) -> str:
    """Return an address or path without what varies in it: the host, segments with digits, the query."""
    address = word.partition("?")[0].partition("#")[0]
    scheme, colon, rest = address.partition("://")
    if colon:
        _, slash, path = rest.partition("/")
        return f"{scheme}://{HOST}{slash}{_segments(path)}"
    return _segments(address)


def _segments(path: str) -> str:
    return "/".join(
        segment if not segment or segment in ("v1", "v2", "v3") or not any(map(str.isdigit, segment)) else ID
        for segment in path.replace("\\", "/").split("/")
    )


def _is_number(word: str) -> bool:
    return NUMERIC.fullmatch(word) is not None or word.replace("/", "").replace("-", "").isdigit()


def _is_host(word: str) -> bool:
    if ADDRESS.fullmatch(word):
        return True
    name, _, port = word.rpartition(":")
    if name and port.isdigit() and "/" not in name:
        return name.lower() not in NUMBERED
    labels = word.lower().split(".")
    return len(labels) > 1 and all(labels) and "/" not in word and labels[-1] in SUFFIXES and word == word.lower()


def _is_email(word: str) -> bool:
    name, at, host = word.partition("@")
    return bool(name and at and "." in host)


def _is_class(word: str) -> bool:
    """Say whether a dotted word is a class of a program: `psycopg2.errors.DeadlockDetected`."""
    *before, last = word.split(".")
    return bool(before) and last[:1].isupper() and last.isalpha() and not last.isupper()


def _is_opaque(word: str) -> bool:
    """Say whether letters alone look like a key: long, and changing case all the time."""
    if len(word) < OPAQUE or not word.isascii():
        return False
    return sum(a.islower() != b.islower() for a, b in pairwise(word)) * FRACTION > len(word)


KINDS = (
    (TIME, lambda word: TIMELIKE.fullmatch(word) is not None),
    (NUMBER, _is_number),
    (ID, lambda word: HEXLIKE.fullmatch(word) is not None),
    (EMAIL, _is_email),
    (HOST, _is_host),
    (ID, _is_opaque),
)
