"""What an error text says without its varying parts, so that dead letters of one cause fall together.

Numbers, ids, times, hosts and quoted data become placeholders; words stay, since they are the
cause. Of JSON the keys stay, and of its values what tells (`message`, `code`) or reads like a
sentence. Whatever a receiver says, the work grows with its length alone: every expression
here matches a character once, and nothing is looked for twice.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b

from messaging.words import HOST, NAME, NUMBER, PLACEHOLDERS, PROTOCOL, TEXT, UNITS, listed, shape, word_of

MOST_READ, MOST_KEPT = 500, 240  # characters; texts longer than the first were cut before they came here
OTHER = "other errors"  # of what is too varied to be told apart

QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "«": "»", "‘": "’"}
RUN = r"[^\s\"'`“”„«»‘’(){}\[\]<>,;=|]+"
TOKEN = re.compile(rf"\s+|[\"'`“„«‘]|{RUN}(?:['’](?=\w){RUN})*|.", re.DOTALL)
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")  # of JSON
LEADING, TRAILING = ":!?#*~&", ":!?.*~&"

# Keys whose value says what is wrong; the end of a longer one counts too (`error_code`, `errorMessage`).
TELLING = (
    *("error", "errors", "message", "messages", "msg", "detail", "details", "reason", "title", "description"),
    *("code", "type", "status", "state", "kind", "category", "field", "fields", "loc", "param", "pointer", "cause"),
    *("fault", "exception", "attribute", "property", "rule", "constraint"),
)
IDENTIFYING = listed(
    "constraint column table relation index function type field parameter key schema database queue "
    "exchange topic property attribute argument method header extension collation operator sequence view "
    "trigger module option"
)
NAMED = listed("customer user recipient name patient contact person client account employee owner driver kunde nutzer")
PARTICLES = listed("van von der den de del della di da dos du la le bin ibn al el y zu")
NUMBERING = ("code", "status", "errno")  # keys whose number names the cause
STATUS_LINE = re.compile(r"([1-5]\d\d) [A-Z]")  # `404 Not Found`
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_.]*")


def signature(text: str) -> str:
    """Return `text` with placeholders for what varies; at most `MOST_KEPT` characters."""
    text = text[:MOST_READ]
    if "\\u" in text:
        text = ESCAPED.sub(_character, text)
    return _of_shape(shape(text))


@lru_cache(maxsize=2048)
def _of_shape(text: str) -> str:
    found = _once(_join(_signed(text, 0)))
    return found if len(found) <= MOST_KEPT else found[: MOST_KEPT - 1].rstrip() + "…"


def _character(escaped: re.Match[str]) -> str:
    code = int(escaped[1], 16)
    return "\ufffd" if code < 32 or 0xD800 <= code < 0xE000 else chr(code)


def digest(signed: str) -> str:
    """Return the key of a signature: 32 hexadecimal digits."""
    return blake2b(signed.encode("utf-8", "replace"), digest_size=16).hexdigest()


def parts(signed: str) -> Iterator[tuple[bool, str]]:
    """Yield a signature as (whether it is a placeholder, text), for those who show it."""
    for place, part in enumerate(SPLIT.split(signed)):
        if part:
            yield place % 2 == 1, part


SPLIT = re.compile(f"({'|'.join(map(re.escape, PLACEHOLDERS))})")


# --- a text --------------------------------------------------------------------


def _signed(text: str, depth: int) -> list[str]:
    """Return the pieces of the signature of `text`: words, placeholders, marks, and " " between them."""
    found: list[str] = []
    key, last = "", ""  # the JSON key or `name=` that a value belongs to; the word before
    hopeless: set[str] = set()  # quotes that nothing closes from here on
    place = 0
    if status := STATUS_LINE.match(text):
        found, place = [status[1]], status.end(1)
    while place < len(text):
        token = TOKEN.match(text, place)
        assert token is not None  # it matches any character
        piece, place = token.group(), token.end()
        if piece in QUOTES and piece not in hopeless and not _ends_word(text, token.start()):
            end = _closing(text, place, QUOTES[piece])
            if end < 0:
                hopeless.add(piece)
                _put(found, piece)
                continue
            inner, place = text[place:end], end + 1
            if text[place : place + 1] == ":" or text[place : place + 2] == " :":
                key = inner.lower()
                _put(found, f'"{word_of(inner, "")}"')
                last = "code" if key.endswith(NUMBERING) else ""
            else:
                _put(found, _quoted(inner, key, last, depth))
                last = ""
        elif piece.isspace():
            _put(found, " ")
        elif len(piece) == 1 and not piece.isalnum():
            if piece == "=":
                key = last
                if text[place : place + 1] == "(":  # PostgreSQL's `Key (name)=(value)`
                    place = max(text.find(")", place), place) + 1
                    _put(found, f"={TEXT}")
                    continue
            elif piece in "})" or (piece in ",; " and not _is_json(found)):
                key = ""
            _put(found, piece)
        else:
            last = _put_word(found, piece, key if found and found[-1] == "=" else "", last)
    return _without_names(found)


def _put(found: list[str], piece: str) -> None:
    if piece == " " and (not found or found[-1] == " "):
        return
    if piece in PLACEHOLDERS and _repeats(found, piece):
        return
    found.append(piece)


def _repeats(found: list[str], piece: str) -> bool:
    """Say whether the same placeholder stands right before, with at most a comma between; drop what is between."""
    back = len(found)
    while back and found[back - 1] in (" ", ","):
        back -= 1
    if not back or found[back - 1] != piece:
        return False
    del found[back:]
    return True


def _put_word(found: list[str], piece: str, key: str, last: str) -> str:
    """Add a run of characters as a word with the marks around it; return the word, for what comes next."""
    core = piece.lstrip(LEADING)
    head = piece[: len(piece) - len(core)]
    bare = core.rstrip(TRAILING)
    tail = core[len(bare) :]
    if not bare:
        _put(found, piece)
        return last
    if head:
        _put(found, head.replace("#", "") or "#")
    if key and not _tells(key):
        _put(found, TEXT if not bare.isdigit() else NUMBER)
    elif bare.lower() in UNITS and _is_counted(found):
        while found[-1] == " ":
            found.pop()
    else:
        _put(found, word_of(bare, last))
    if tail:
        _put(found, tail)
    # "status: 500", "SQLSTATE 40P01", "HTTP/1.1 503": a number is looked at with the word before it in mind.
    return "http" if PROTOCOL.fullmatch(bare) else bare.lower()


def _is_counted(found: list[str]) -> bool:
    return NUMBER in (found[-1:] or found[-2:-1] or [""]) or (
        len(found) > 1 and found[-1] == " " and found[-2] == NUMBER
    )


def _is_json(found: list[str]) -> bool:
    return bool(found) and found[0] in ("{", "[")


def _ends_word(text: str, place: int) -> bool:
    """Say whether a quote at `place` stands behind a letter: an apostrophe."""
    return place > 0 and text[place - 1].isalnum()


def _closing(text: str, place: int, quote: str) -> int:
    """Return where `quote` closes what begins at `place`, -1 when nothing does."""
    while True:
        end = text.find(quote, place)
        if end < 0:
            return -1
        is_escaped = end > 0 and text[end - 1] == "\\"
        is_apostrophe = quote in "'’" and text[end + 1 : end + 2].isalnum()
        if not (is_escaped or is_apostrophe):
            return end
        place = end + 1


def _quoted(inner: str, key: str, last: str, depth: int) -> str:
    """Return what stands for a quoted text: itself, signed, where it tells something; else a placeholder."""
    if not inner:
        return '""'
    if not key and last in IDENTIFYING and IDENTIFIER.fullmatch(inner):
        return f'"{inner}"'
    if depth < 2 and (_tells(key) or _is_sentence(inner)):
        return f'"{_join(_signed(inner, depth + 1))}"'
    return TEXT


def _tells(key: str) -> bool:
    return key.endswith(TELLING)


def _is_sentence(text: str) -> bool:
    """Say whether a text reads like words for people: at least two in lower case, more than half of all."""
    words = text.split()
    plain = sum(word.strip(".,:;!?").isalpha() and word.islower() for word in words)
    return plain > 1 and plain * 2 > len(words)


def _join(found: list[str]) -> str:
    text = "".join(found).strip()
    return text.replace(f"[{HOST}]:{NUMBER}", HOST).replace(f"[{HOST}]", HOST)


def _once(text: str) -> str:
    """Return JSON with only the first of a list of objects: one error or five like it are one cause."""
    opening = LISTED.search(text)
    if opening is None:
        return text
    depth = 0
    for brace in BRACE.finditer(text, opening.end() - 1):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[: brace.end()] + ", …"
    return text


LISTED, BRACE = re.compile(r"\[ ?\{"), re.compile(r"[{}]")


# --- names of people -----------------------------------------------------------


MENTIONS = re.compile(rf"\b(?:{'|'.join(sorted(NAMED))})\b", re.IGNORECASE)


def _without_names(found: list[str]) -> list[str]:
    """Return the pieces with names of people replaced, where they can be told.

    Titles in a row behind a word such as `customer`; or in the middle of a sentence, when a
    letter is foreign to it.
    """
    text = "".join(found)
    if text.isascii() and not MENTIONS.search(text):
        return found
    letters = [letter for piece in found if piece not in PLACEHOLDERS for letter in piece if letter.isalpha()]
    is_ascii = sum(map(str.isascii, letters)) * 10 > len(letters) * 6
    kept: list[str] = []
    last = ""
    place = 0
    while place < len(found):
        end = _run(found, place, is_ascii)
        run = found[place:end]
        is_foreign = is_ascii and any(not piece.isascii() for piece in run)
        if run and (last in NAMED or (is_foreign and last.islower())):
            kept.append(NAME)
            last, place = "", end
            continue
        piece = found[place]
        kept.append(piece)
        if piece != " ":
            last = piece.lower() if piece[:1].islower() or piece.lower() in NAMED else ""
        place += 1
    return kept


def _run(found: list[str], place: int, is_ascii: bool) -> int:
    """Return the end of the row of titles at `place`, `place` itself when there is none."""
    end = place
    while end < len(found) and _is_title(found[end], is_ascii):
        end += 1
        ahead = end
        while ahead + 1 < len(found) and found[ahead] == " " and found[ahead + 1] in PARTICLES:
            ahead += 2
        if ahead + 1 < len(found) and found[ahead] == " " and _is_title(found[ahead + 1], is_ascii):
            end = ahead + 1
    return end


def _is_title(piece: str, is_ascii: bool) -> bool:
    """Say whether a piece is written like a name: `Zoë`, `Anne-Marie`, `O'Neil`; in a foreign script, any word is."""
    bare = piece.replace("-", " ").replace("'", " ").replace("’", " ")
    if len(piece) < 2 or not bare.replace(" ", "").isalpha():
        return False
    return bare.istitle() if piece.lower() != piece.upper() else is_ascii and not piece.isascii()
