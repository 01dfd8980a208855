"""JSON into nodes: judged by the strict parser of all our doors, then read again for the places."""

import json
import re
from collections.abc import Iterator

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from testing.document.nodes import MAX_DEPTH, Mark, Node, check_scalar, refuse

TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+)')
PLACE = re.compile(r" at line (\d+) column (\d+)")
Token = tuple[str, Mark]


def read_json(text: str) -> Node:
    """Return the value in `text`; raises BadDocument with the place of what is wrong."""
    try:
        strict_json.parse(text.encode())
    except Malformed as exc:
        place = PLACE.search(exc.detail)
        mark = (int(place[1]), int(place[2])) if place else (1, 1)
        raise refuse(mark, PLACE.sub("", exc.detail)) from exc
    tokens = _tokens(text)
    return _node(next(tokens), tokens, 1)


def _tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of valid JSON with their places."""
    position, line, begins = 0, 1, 0
    while match := TOKEN.match(text, position):
        start = match.start(1)
        line += text.count("\n", position, start)
        begins = max(begins, text.rfind("\n", position, start) + 1)
        yield match[1], (line, start - begins + 1)
        position = match.end()


def _node(token: Token, tokens: Iterator[Token], depth: int) -> Node:
    text, mark = token
    if text not in ("{", "["):
        return Node(check_scalar(json.loads(text), mark), mark)
    if depth > MAX_DEPTH:
        raise refuse(mark, f"nested deeper than {MAX_DEPTH} levels")
    return _object(tokens, mark, depth) if text == "{" else Node(_array(tokens, depth), mark)


def _array(tokens: Iterator[Token], depth: int) -> list[Node]:
    found = []
    while (token := next(tokens))[0] != "]":
        if token[0] != ",":
            found.append(_node(token, tokens, depth + 1))
    return found


def _object(tokens: Iterator[Token], mark: Mark, depth: int) -> Node:
    children: dict[str, Node] = {}
    keys: dict[str, Mark] = {}
    while (token := next(tokens))[0] != "}":
        if token[0] == ",":
            continue
        name = json.loads(token[0])
        next(tokens)  # the colon
        keys[name] = token[1]
        children[name] = _node(next(tokens), tokens, depth + 1)
    return Node(children, mark, keys)
