"""A suite from a curl line: the same request, over the endpoint that is registered for its address."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from yarl import URL

from endpoints.edge import strict_json
from endpoints.errors import Malformed, Refused
from endpoints.transports.bodies import is_json
from testing.document.nodes import unknown
from testing.drafting.cleaning import Cleaner
from testing.drafting.draft import Draft, finish, slug_of
from testing.drafting.writing import Line
from testing.steps.http import HEADER, METHODS

LONGEST = 100_000
ALIAS = "api"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Asked:
    """What a line asks for."""

    url: str = ""
    method: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    as_query: bool = False
    remarks: list[str] = field(default_factory=list)


Option = Callable[[Asked, str], None]


def _header(asked: Asked, value: str) -> None:
    name, _, text = value.partition(":")
    if HEADER.fullmatch(name.strip()):
        asked.headers[name.strip().lower()] = text.strip()


def _data(asked: Asked, value: str) -> None:
    if value.startswith("@"):
        raise _wrong(f"reads the file {value[1:][:60]}; write its content into the line")
    asked.data.append(value)


def _raw(asked: Asked, value: str) -> None:
    asked.data.append(value)


def _json(asked: Asked, value: str) -> None:
    _data(asked, value)
    asked.headers.setdefault("content-type", "application/json")


def _set(name: str, value: Any = None) -> Option:
    return lambda asked, given: setattr(asked, name, given if value is None else value)


def _secret(asked: Asked, value: str) -> None:
    asked.remarks.append("Left out: user, password and cookies; the endpoint's credential is used.")


def _nothing(asked: Asked, value: str) -> None:
    """What changes how curl asks or shows, not what it asks."""


def _method(asked: Asked, value: str) -> None:
    if value.upper() not in METHODS:
        raise _wrong(unknown("method", value, list(METHODS)))
    asked.method = value.upper()


# What takes a value, and what stands alone.
WITH_VALUE: dict[str, Option] = {
    **dict.fromkeys(("-X", "--request"), _method),
    **dict.fromkeys(("-H", "--header"), _header),
    **dict.fromkeys(("-d", "--data", "--data-ascii", "--data-binary", "--data-urlencode"), _data),
    "--data-raw": _raw,
    "--json": _json,
    "--url": _set("url"),
    "-A": lambda asked, value: _header(asked, f"user-agent: {value}"),
    "--user-agent": lambda asked, value: _header(asked, f"user-agent: {value}"),
    "-e": lambda asked, value: _header(asked, f"referer: {value}"),
    "--referer": lambda asked, value: _header(asked, f"referer: {value}"),
    **dict.fromkeys(("-u", "--user", "-b", "--cookie", "--oauth2-bearer"), _secret),
    **dict.fromkeys(
        (
            *("-o", "--output", "-w", "--write-out", "-m", "--max-time", "--connect-timeout", "--retry"),
            *("-c", "--cookie-jar", "--cacert", "--cert", "-E", "--key", "-x", "--proxy", "--resolve", "--retry-delay"),
        ),
        _nothing,
    ),
}
ALONE: dict[str, Option] = {
    **dict.fromkeys(("-G", "--get"), _set("as_query", value=True)),
    **dict.fromkeys(("-I", "--head"), _set("method", "HEAD")),
    **dict.fromkeys(
        (
            *("-s", "--silent", "-S", "--show-error", "-v", "--verbose", "-i", "--include", "-f", "--fail", "-g"),
            *("--globoff", "-k", "--insecure", "-L", "--location", "--compressed", "-#", "--progress-bar", "-N"),
            *("--http1.1", "--http2", "--no-buffer", "--fail-with-body", "-q", "-4", "-6"),
        ),
        _nothing,
    ),
}


def read_curl(line: str) -> Asked:
    """Return what a line asks for; raises Malformed for what is no curl line, or does what a step cannot."""
    if len(line) > LONGEST:
        raise _wrong(f"is longer than {LONGEST:,} characters")
    try:
        words = shlex.split(line.replace("\\\r\n", " ").replace("\\\n", " "))
    except ValueError as exc:
        raise _wrong(f"cannot be read: {exc}") from exc
    if not words or words[0] != "curl":
        raise _wrong("must begin with curl")
    asked = Asked()
    rest = iter(words[1:])
    for word in rest:
        _read(asked, word, rest)
    if not asked.url:
        raise _wrong("names no address")
    return asked


def _read(asked: Asked, word: str, rest: Iterator[str]) -> None:
    """Read one word, and its value where it takes one."""
    if not word.startswith("-") or word == "-":
        if asked.url:
            raise _wrong(f"names two addresses, {asked.url[:100]} and {word[:100]}; a draft is made of one")
        asked.url = word
    elif word in ALONE:
        ALONE[word](asked, "")
    elif word in WITH_VALUE:
        value = next(rest, None)
        if value is None:
            raise _wrong(f"ends after {word}")
        WITH_VALUE[word](asked, value)
    elif word.startswith("--"):
        raise _wrong(unknown("option", word, [*WITH_VALUE, *ALONE]))
    elif word[:2] in WITH_VALUE:  # -XPOST
        WITH_VALUE[word[:2]](asked, word[2:])
    elif len(word) > 2 and word[:2] in ALONE:  # -sS, -sXPOST
        ALONE[word[:2]](asked, "")
        _read(asked, f"-{word[2:]}", rest)
    else:
        raise _wrong(unknown("option", word, [*WITH_VALUE, *ALONE]))


def url_of(text: str) -> URL:
    """Return an http(s) URL; raises Malformed."""
    try:
        found = URL(text if "://" in text else f"http://{text}")
    except ValueError as exc:
        raise _wrong(f"has no address that can be read: {exc}") from exc
    if found.scheme not in ("http", "https") or not found.host:
        raise _wrong("must ask an http or https address")
    return found


def draft_curl(asked: Asked, target: str, slug: str, cleaner: Cleaner) -> Draft:
    """Return a suite that makes the same request to `target`, and expects that it succeeds."""
    url = url_of(asked.url)
    body = "&".join(asked.data) if asked.data else None
    pairs = parse_qsl(url.raw_query_string, keep_blank_values=True)
    if asked.as_query and body:
        pairs, body = pairs + parse_qsl(body, keep_blank_values=True), None
    params: dict[str, Any] = {"system": ALIAS, "method": asked.method or ("GET" if body is None else "POST")}
    params["path"] = cleaner.text(url.raw_path or "/", "path")
    if len(dict(pairs)) < len(pairs):
        raise Refused("its query names a parameter twice, which a draft cannot hold", code="no_draft")
    if query := cleaner.fields(dict(pairs), "query"):
        params["query"] = query
    headers = {name: text for name, text in asked.headers.items() if name not in ("host", "content-length")}
    if body is not None:
        headers.setdefault("content-type", FORM)
        params |= _body(body, headers["content-type"], cleaner)
        if "json" in params and headers["content-type"] == "application/json":
            del headers["content-type"]
    if headers := cleaner.fields(headers, "headers"):
        params["headers"] = headers
    case = {
        "case": "answers",
        "steps": [{"id": "ask", "http": params, "assert": [Line(status=Line(between=[200, 299]))]}],
    }
    title = f"{params['method']} {url.path} of {target}"
    remarks = ["Made from a curl line. The address and the credential are those of the endpoint.", *asked.remarks]
    return finish(slug, title, {"systems": {ALIAS: target}, "cases": [case]}, remarks, cleaner)


def slug_for(asked: Asked, target: str) -> str:
    """Return what the suite would best be called."""
    return slug_of(target, asked.method or ("post" if asked.data else "get"), url_of(asked.url).path)


def _body(body: str, content_type: str, cleaner: Cleaner) -> dict[str, Any]:
    if is_json(content_type):
        try:
            return {"json": cleaner.value(strict_json.parse(body.encode()), "json")}
        except Malformed:
            pass
    if cleaner.may_hold_secrets(body):
        cleaner.remarks.append("Left out: the body, which may hold a secret; write one that holds none.")
        return {"body": ""}
    return {"body": cleaner.text(body, "body")}


def _wrong(detail: str) -> Malformed:
    said = f"the line {detail}"
    return Malformed(f"curl: {said}", errors=[{"field": "curl", "code": "invalid", "detail": said}])
