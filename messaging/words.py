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
SUFFIXES = listed(
    "com net org io local localdomain internal intranet lan corp home example test invalid cloud dev app "
    "svc cluster de uk fr eu us ch at nl be it es pl se no dk fi cz pt jp cn in br au ca info biz"
)


NUMERIC = re.compile(r"[-+]?\d[\d.,_]*(?:[a-zµ]{1,7}|%)?", re.IGNORECASE)
TIMELIKE = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[\dT:.,Z+/-]*|\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?[Z+\d:-]*")
HEXLIKE = re.compile(r"(?:0x)?[0-9a-f]{8,}", re.IGNORECASE)
ADDRESS = re.compile(
    r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d+|/\d+)?|(?=[^:]*:[^:]*:)[0-9a-f:.]+(?:%\w+)?", re.IGNORECASE
)
PORT = re.compile(r"[\w.-]+:\d{1,5}")
SHORT = re.compile(r"\d{1,5}|[0-9A-Z]{5}")
OPAQUE, FRACTION = 16, 3  # letters alone are an id from so many on, when one of three changes case


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
