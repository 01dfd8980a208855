"""What can go wrong for a caller: each error carries a stable `code` and the HTTP `status` that says it."""


class ControlPlaneError(Exception):
    """Base of every error a caller may see; `errors` names the fields at fault, if any.

    `errors` is a list of {"field": str, "code": str, "detail": str} (RFC 9457, extension member).
    """

    code = "internal"
    status = 500
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        errors: list[dict[str, str]] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = errors or []
        self.retry_after_s = retry_after_s


class Malformed(ControlPlaneError):
    code, status, title = "malformed", 400, "Malformed request"


class Unauthenticated(ControlPlaneError):
    code, status, title = "unauthenticated", 401, "Not authenticated"


class Forbidden(ControlPlaneError):
    code, status, title = "forbidden", 403, "Not allowed"


class NotFound(ControlPlaneError):
    code, status, title = "not_found", 404, "Not found"


class TooSlow(ControlPlaneError):
    code, status, title = "too_slow", 408, "Too slow"


class Conflict(ControlPlaneError):
    code, status, title = "conflict", 409, "Not possible in this state"


class TooLarge(ControlPlaneError):
    code, status, title = "too_large", 413, "Too large"


class UnsupportedMediaType(ControlPlaneError):
    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class Refused(ControlPlaneError):
    """Well-formed, but refused by a rule; the code says which."""

    code, status, title = "refused", 422, "Refused"


class LimitExceeded(ControlPlaneError):
    code, status, title = "limit", 429, "Limit exceeded"


class Overloaded(ControlPlaneError):
    code, status, title = "full", 503, "Full"
