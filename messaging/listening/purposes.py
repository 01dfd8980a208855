"""What a signature was made for: a system signs datagrams and hooks with one secret, and the one is not the other.

What a datagram's signature stands for is fixed (`<ts>.<nonce>.<body>`), and so is what the senders of hooks sign.
Whoever reads a datagram on its way could post it as the body of a hook that is signed over its body alone, or as
parts that some other scheme puts together again: bytes that could be a datagram's are no hook's.
"""

import re

import orjson

SINCE = 1_577_836_800.0  # 2020: a number before that is somebody's id, and no time of ours
AHEAD_S = 10 * 366 * 86400.0  # nor is one beyond that
MAX_NONCE_BYTES = 4 * 200
_STAMP = re.compile(rb"[0-9]{1,15}(?:\.[0-9]{1,9})?(?:[eE][0-9]{1,2})?")


def is_a_datagrams(signed: bytes, now: float) -> bool:
    """Say whether `signed` reads as a datagram of whenever: of a hook not every scheme says when it was signed."""
    end = -1
    for _ in range(2):  # a time may have a fraction
        end = signed.find(b".", end + 1, end + 30)
        if end < 0:
            return False
        stamp = signed[:end]
        if _STAMP.fullmatch(stamp) and SINCE <= float(stamp) <= now + AHEAD_S and _has_nonce(signed[end + 1 :]):
            return True
    return False


def _has_nonce(rest: bytes) -> bool:
    """Say whether this is a nonce, a dot and a message; what is JSON as a whole has no nonce before it."""
    if _is_json(rest):
        return False
    dot = rest.find(b".", 1, MAX_NONCE_BYTES + 1)
    while dot > 0:
        if rest[dot + 1 :].lstrip()[:1] == b"{" and _is_json(rest[dot + 1 :]):
            return True
        dot = rest.find(b".", dot + 1, MAX_NONCE_BYTES + 1)
    return False


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
