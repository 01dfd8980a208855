"""How every door says no: RFC 9457 problem details, made from one ControlPlaneError."""

from typing import Any

import orjson

from endpoints.errors import ControlPlaneError

CONTENT_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="controlplane"'


def problem_body(error: ControlPlaneError) -> dict[str, Any]:
    """Return the members of the problem: `type title status code detail errors[]`.

    `code` is the stable name to program against; `errors` lists the fields at fault
    as `{"field", "code", "detail"}`.
    """
    return {
        "type": f"urn:controlplane:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "errors": error.errors,
    }


def problem_headers(error: ControlPlaneError) -> dict[str, str]:
    """Return the headers that belong to the answer beside its content type."""
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return headers


def problem(error: ControlPlaneError) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer to `error`, for doors without a framework."""
    return (
        error.status,
        {"Content-Type": CONTENT_TYPE, **problem_headers(error)},
        orjson.dumps(problem_body(error)),
    )
