"""What Django and DRF raise, translated once into our errors, so that every answer is a problem."""

from collections.abc import Callable
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import IntegrityError
from django.db.models import ProtectedError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import set_rollback

from endpoints import errors
from endpoints.edge.problem import CONTENT_TYPE, problem, problem_body, problem_headers

log = structlog.get_logger(__name__)

NO_KEY = "no key came: send an API key or a token as 'Authorization: Bearer ...', or a key as 'X-API-Key: ...'"


class MethodNotAllowed(errors.ControlPlaneError):
    code, status, title = "method_not_allowed", 405, "Method not allowed"


class NotAcceptable(errors.ControlPlaneError):
    code, status, title = "not_acceptable", 406, "Not acceptable"


def translate(exc: BaseException) -> errors.ControlPlaneError | None:
    """Return the error of ours that says the same as `exc`, None for a bug."""
    if isinstance(exc, errors.ControlPlaneError):
        return exc
    for kind, say in TRANSLATIONS.items():
        if isinstance(exc, kind):
            return say(exc)
    return None


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer `exc` as a problem (DRF's EXCEPTION_HANDLER); bugs go on to Django's handler500."""
    error = translate(exc)
    if error is None:
        return None
    set_rollback()
    response = Response(problem_body(error), status=error.status, content_type=CONTENT_TYPE)
    allowed = getattr(context.get("view"), "allowed_methods", None)
    if error.status == 405 and allowed:
        response["Allow"] = ", ".join(allowed)
    for name, value in problem_headers(error).items():
        response[name] = value
    return response


def problem_response(error: errors.ControlPlaneError) -> HttpResponse:
    """Return `error` as a plain Django response, for what never reaches DRF."""
    status, headers, body = problem(error)
    return HttpResponse(body, status=status, headers=headers)


def field_errors(detail: Any, at: str = "") -> list[dict[str, str]]:
    """Return DRF's nested error detail as a flat list of `{"field", "code", "detail"}`."""
    if isinstance(detail, dict):
        return [found for key, below in detail.items() for found in field_errors(below, _join(at, key))]
    if isinstance(detail, (list, tuple)):
        nested = any(isinstance(item, (dict, list)) for item in detail)
        return [
            found
            for index, item in enumerate(detail)
            for found in field_errors(item, _join(at, index) if nested else at)
        ]
    return [{"field": at, "code": str(getattr(detail, "code", "invalid")), "detail": str(detail)}]


def _join(at: str, key: Any) -> str:
    name = "" if key == "non_field_errors" else str(key)
    return f"{at}.{name}" if at and name else at or name


def _invalid(exc: Any) -> errors.ControlPlaneError:
    found = field_errors(exc.detail)
    return errors.Malformed(_summary(found), code="invalid", errors=found)


def _invalid_model(exc: Any) -> errors.ControlPlaneError:
    messages = exc.message_dict if hasattr(exc, "error_dict") else {"": exc.messages}
    found = [
        {"field": "" if field == "__all__" else field, "code": "invalid", "detail": text}
        for field, texts in messages.items()
        for text in texts
    ]
    return errors.Malformed(_summary(found), code="invalid", errors=found)


def _summary(found: list[dict[str, str]]) -> str:
    if not found:
        return "the request is not valid"
    first = found[0]
    return f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]


def _throttled(exc: Any) -> errors.ControlPlaneError:
    wait_s = None if exc.wait is None else max(1, round(exc.wait))
    return errors.LimitExceeded("too many requests, slow down", retry_after_s=wait_s)


def _protected(exc: Any) -> errors.ControlPlaneError:
    kinds = sorted({str(held._meta.verbose_name_plural) for held in list(exc.protected_objects)[:100]})
    return errors.Conflict(f"it is still used by {', '.join(kinds)}", code="in_use")


def _text_of(error: type[errors.ControlPlaneError], fallback: str = "") -> Callable[[Any], errors.ControlPlaneError]:
    return lambda exc: error(str(getattr(exc, "detail", "")) or fallback or str(exc))


# First match wins: kinds before the kinds they inherit from.
TRANSLATIONS: dict[type[BaseException], Callable[[Any], errors.ControlPlaneError]] = {
    drf.ValidationError: _invalid,
    ModelValidationError: _invalid_model,
    drf.ParseError: _text_of(errors.Malformed),
    drf.NotAuthenticated: lambda exc: errors.Unauthenticated(NO_KEY),
    drf.AuthenticationFailed: _text_of(errors.Unauthenticated),
    drf.PermissionDenied: _text_of(errors.Forbidden),
    drf.NotFound: _text_of(errors.NotFound),
    drf.MethodNotAllowed: _text_of(MethodNotAllowed),
    drf.NotAcceptable: _text_of(NotAcceptable),
    drf.UnsupportedMediaType: _text_of(errors.UnsupportedMediaType),
    drf.Throttled: _throttled,
    Http404: lambda exc: errors.NotFound("there is nothing here, or it is not yours to see"),
    PermissionDenied: _text_of(errors.Forbidden, "not allowed"),
    RequestDataTooBig: lambda exc: errors.TooLarge("the body is too large"),
    SuspiciousOperation: _text_of(errors.Malformed, "the request is not acceptable"),
    ProtectedError: _protected,
    IntegrityError: lambda exc: errors.Conflict("another change came first, or the name is taken"),
}


def is_api(request: HttpRequest) -> bool:
    """Say whether a program asked: everything below these paths answers in JSON."""
    return request.path.startswith(("/api/", "/to/", "/in/"))
