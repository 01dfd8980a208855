"""What a WebSocket peer's refusals and close codes mean for a delivery."""

from datetime import UTC, datetime

from websockets.http11 import Response

from endpoints.transports.base import KEPT_BODY, AckLevel, Advice, ErrorClass, Reply, TransportError
from endpoints.transports.failures import BadAnswer, translate
from endpoints.transports.http_answers import refusal
from endpoints.transports.http_exchange import kept
from endpoints.transports.masking import Masking
from endpoints.transports.ws_answers import Closed, NoPong, TooBig
from endpoints.transports.ws_exchange import Refused

CAUGHT = (TimeoutError, OSError, BadAnswer, Closed, NoPong, TooBig, Refused)

Meaning = tuple[ErrorClass, Advice]

# RFC 6455, section 7.4, and the registry it began.
CLOSES: dict[int, Meaning] = {
    1002: (ErrorClass.PROTOCOL, Advice.RETRY),
    1003: (ErrorClass.PROTOCOL, Advice.DEAD),  # it does not take this kind of data
    1007: (ErrorClass.PROTOCOL, Advice.DEAD),  # nor these contents
    1008: (ErrorClass.AUTH, Advice.RETRY),
    1009: (ErrorClass.PROTOCOL, Advice.DEAD),  # too big
    1010: (ErrorClass.PROTOCOL, Advice.RETRY),
    1011: (ErrorClass.SERVER_ERROR, Advice.RETRY),
    1012: (ErrorClass.SERVER_ERROR, Advice.RETRY),
    1013: (ErrorClass.THROTTLED, Advice.THROTTLED),
    1014: (ErrorClass.SERVER_ERROR, Advice.RETRY),
    4400: (ErrorClass.PROTOCOL, Advice.DEAD),
}
WENT_AWAY: Meaning = (ErrorClass.CONNECT, Advice.RETRY)
AS_STATUS = range(4400, 4600)  # 4000 and an HTTP status, as many have it


def refused_with(response: Response, masking: Masking) -> TransportError:
    """Return what a handshake means that was answered with something else than 101."""
    data = masking.body(bytes(response.body), truncated=False)
    reply = Reply(
        ack_level=AckLevel.APPLICATION,
        took_ms=0.0,
        status_code=response.status_code,
        headers=kept((name, masking.text(value)) for name, value in response.headers.raw_items()),
        body=data[:KEPT_BODY],
        truncated=len(data) > KEPT_BODY,
    )
    reason = masking.text(response.reason_phrase)
    return refusal(response.status_code, f"{reason} to the handshake".strip(), reply, datetime.now(UTC))


def what_ended(exc: BaseException, masking: Masking, *, is_alone: bool) -> TransportError:
    """Return what ended a send; `is_alone`: no other was under way over the same connection."""
    words = masking.text(str(exc))[:180]
    if isinstance(exc, Closed):
        return closed_with(exc.code, words, is_alone=is_alone)
    if isinstance(exc, TooBig):
        advice = Advice.DEAD if is_alone else Advice.RETRY
        return TransportError(f"the answer is too big: {words}", error_class=ErrorClass.PROTOCOL, advice=advice)
    if isinstance(exc, NoPong):
        return TransportError("the peer answers no ping", error_class=ErrorClass.TIMEOUT)
    if isinstance(exc, BadAnswer):
        return TransportError(f"not proper WebSocket: {words}", error_class=ErrorClass.PROTOCOL)
    error = translate(exc)
    return TransportError(masking.text(error.detail), error_class=error.error_class, advice=error.advice)


def closed_with(code: int, words: str, *, is_alone: bool) -> TransportError:
    """Return the error that a close code is for what was under way.

    Of several messages one is to blame for a code that says so, and nobody knows which:
    they are sent again, each alone (`is_alone`), and then it is clear.
    """
    if code in AS_STATUS and code not in CLOSES:
        meant = refusal(code - 4000, None, Reply(ack_level=None, took_ms=0.0), datetime.now(UTC))  # type: ignore[arg-type]
        error_class, advice = meant.error_class, meant.advice
    else:
        error_class, advice = CLOSES.get(code, WENT_AWAY)
    if not is_alone and advice in (Advice.DEAD, Advice.GONE):
        advice = Advice.RETRY
    return TransportError(words[:200], error_class=error_class, advice=advice)
