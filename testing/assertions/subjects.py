"""Subjects: how each is found in an observation, one row each.

A name is exact (`status`) or a beginning with something below it (`headers.etag`,
`body.$.id`). What cannot be found is a Missing that says what was there instead.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jsonpath import JSONPathError

from endpoints.edge import strict_json
from endpoints.edge.json_path import compile_path
from endpoints.errors import Malformed
from testing.assertions.observation import Missing, Observation
from testing.document.nodes import unknown

Read = Callable[[Observation], Any]
SHOWN = 200
PHASES = ("dns", "connect", "tls", "first_byte", "body")
INDEX = re.compile(r"-?[0-9]{1,9}")


def read_subject(name: str) -> Read:
    """Return how `name` is read; raises ValueError when it is no subject."""
    if name in PLAIN:
        return PLAIN[name]
    root, dot, below = name.partition(".")
    if not dot or not below or root not in BELOW:
        known = [*PLAIN, *(f"{root}.<{what}>" for root, (what, _) in BELOW.items())]
        raise ValueError(unknown("subject", name, known))
    return BELOW[root][1](below)


def _attribute(name: str, words: str) -> Read:
    def read(seen: Observation) -> Any:
        found = getattr(seen, name)
        return instead(seen, f"no {words}") if found is None else found

    return read


def instead(seen: Observation, lacking: str) -> Missing:
    """Return the Missing that says what was lacking and what there was."""
    if seen.error_class:
        return Missing(f"{lacking}: {seen.error_class}, {seen.error}")
    there = [
        name for name in ("status", "headers", "body", "rows", "messages", "events", "close", "tls") if _has(seen, name)
    ]
    return Missing(f"{lacking}; there is {', '.join(there) or 'nothing but latency'}")


def _has(seen: Observation, name: str) -> bool:
    return getattr(seen, name) is not None


def _text(seen: Observation) -> Any:
    if seen.body is None:
        return instead(seen, "no body")
    try:
        return seen.body.decode()
    except UnicodeDecodeError as exc:
        return Missing(f"the body is not UTF-8 ({exc.reason} at byte {exc.start})")


def _hex(seen: Observation) -> Any:
    return instead(seen, "no body") if seen.body is None else seen.body.hex()


def _size(seen: Observation) -> Any:
    if seen.body is None:
        return instead(seen, "no body")
    return Missing(f"the body was cut at {len(seen.body)} bytes") if seen.truncated else len(seen.body)


def _error_class(seen: Observation) -> Any:
    return seen.error_class or Missing(f"no error{f'; status {seen.status}' if seen.status is not None else ''}")


def _error_code(seen: Observation) -> Any:
    return seen.error_code or Missing(f"no code of an error{f'; {seen.error}' if seen.error else ''}")


def _header(name: str) -> Read:
    wanted = name.lower()

    def read(seen: Observation) -> Any:
        if seen.headers is None:
            return instead(seen, "no headers")
        found = next((value for key, value in seen.headers.items() if key.lower() == wanted), None)
        return Missing(f"no such header; there are {_names(seen.headers)}") if found is None else found

    return read


@lru_cache(maxsize=1024)
def _json_path(text: str) -> tuple[Any, bool]:
    try:
        path = compile_path(text)
    except JSONPathError as exc:
        raise ValueError(f"'{text[:100]}' is not a JSONPath (RFC 9535): {exc}") from exc
    return path, bool(getattr(path, "singular_query", lambda: False)())


def _body(text: str) -> Read:
    """Read one value where the path can lead to one only, else the list of all it leads to."""
    if not text.startswith("$"):
        raise ValueError(f"'body.{text[:60]}' is not a subject: write a JSONPath (RFC 9535), such as body.$.id")
    path, is_single = _json_path(text)

    def read(seen: Observation) -> Any:
        if seen.body is None:
            return instead(seen, "no body")
        try:
            value = strict_json.parse(seen.body)
        except Malformed as exc:
            cut = f"the body was cut at {len(seen.body)} bytes" if seen.truncated else f"the body is no JSON: {exc}"
            more = "..." if len(seen.body) > SHOWN else ""
            return Missing(f"{cut}; it begins {seen.body[:SHOWN]!r}{more}")
        return _followed(path, value, "the body", is_single=is_single)

    return read


def _below(name: str) -> Callable[[str], Read]:
    """Return the reader of a path below a list or object: dotted, such as `0.state`, or a JSONPath."""
    whole = _attribute(name, name)

    def make(path: str) -> Read:
        if path.startswith("$"):
            return _within(whole, path)
        parts = path.split(".")

        def read(seen: Observation) -> Any:
            found, at = whole(seen), name
            for part in parts:
                if isinstance(found, Missing):
                    return found
                found = _step(found, part, at)
                at = f"{at}.{part}"
            return found

        return read

    return make


def _within(whole: Read, text: str) -> Read:
    """Return the reader of a JSONPath below a subject that is a value."""
    path, is_single = _json_path(text)

    def read(seen: Observation) -> Any:
        value = whole(seen)
        return value if isinstance(value, Missing) else _followed(path, value, "it", is_single=is_single)

    return read


def _followed(path: Any, value: Any, words: str, *, is_single: bool) -> Any:
    try:
        found = [match.obj for match in path.finditer(value)]
    except (JSONPathError, RecursionError) as exc:
        return Missing(f"the path cannot be followed: {exc}")
    if not is_single:
        return found
    return found[0] if found else Missing(f"nothing there; {words} is {_shown(value)}")


def _step(value: Any, part: str, at: str) -> Any:
    if isinstance(value, Mapping):
        return value[part] if part in value else Missing(f"{at} has no '{part}'; there are {_names(value)}")
    if isinstance(value, (list, tuple)):
        if INDEX.fullmatch(part) and -len(value) <= int(part) < len(value):
            return value[int(part)]
        return Missing(f"{at} has no '{part}'; it holds {len(value)} items")
    return Missing(f"{at} is {_shown(value)}, with nothing below it")


def _phase(name: str) -> Read:
    if name not in PHASES:
        raise ValueError(unknown("phase of latency", name, list(PHASES)))

    def read(seen: Observation) -> Any:
        if name in seen.phases_ms:
            return seen.phases_ms[name]
        return Missing(f"not measured here; there are {_names(seen.phases_ms)}")

    return read


def _error(name: str) -> Read:
    raise ValueError(unknown("subject", f"error.{name}", ["error.class", "error.code"]))


def _names(value: Mapping[str, Any]) -> str:
    names = sorted(map(str, value))
    return f"{', '.join(names[:20]) or 'none'}{', ...' * (len(names) > 20)}"


def _shown(value: Any) -> str:
    text = strict_json.dumps(value).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


PLAIN: dict[str, Read] = {
    "status": _attribute("status", "status"),
    "text": _text,
    "bytes": _hex,
    "size": _size,
    "latency": lambda seen: seen.latency_ms,
    "error.class": _error_class,
    "error.code": _error_code,
    "rows": _attribute("rows", "rows"),
    "messages": _attribute("messages", "messages"),
    "events": _attribute("events", "events"),
}
BELOW: dict[str, tuple[str, Callable[[str], Read]]] = {
    "headers": ("name", _header),
    "body": ("JSONPath", _body),
    "rows": ("path", _below("rows")),
    "messages": ("path", _below("messages")),
    "events": ("path", _below("events")),
    "tls": ("field", _below("tls")),
    "close": ("field", _below("close")),
    "latency": ("phase", _phase),
    "error": ("class or code", _error),
}
DURATIONS = ("latency",)  # subjects whose operands are durations, in milliseconds once read
SIZES = ("size",)


def root_of(subject: str) -> str:
    """Return the first word of a subject, by which a kind of step says what it offers."""
    return subject.partition(".")[0]
