"""The same callers and roles, in the shapes Django REST Framework asks for.

`request.user` is always a Principal: views hand it to services as `by`.
"""

from typing import Any

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from endpoints.access import roles
from endpoints.access.authenticate import authenticate, credentials_of, principal_of_user
from endpoints.access.principal import Principal
from endpoints.edge.problem import CHALLENGE
from endpoints.errors import Forbidden


def principal_of(request: Request) -> Principal:
    """Return who is calling; only behind RolePermission, which lets nobody else through."""
    assert isinstance(request.user, Principal)
    return request.user


class KeyAuthentication(BaseAuthentication):
    """An API key or JWT in `Authorization: Bearer` or `X-API-Key`."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        token = credentials_of(headers)
        if not token:
            return None
        principal = authenticate(token)
        if principal.recipient:
            raise Forbidden("a token of one user of a system is for the gateway and for sending; it reads nothing here")
        return principal, token

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class PageSessionAuthentication(SessionAuthentication):
    """The session of the pages, with its CSRF token on everything that changes something."""

    def authenticate(self, request: Request) -> Any:
        found = super().authenticate(request)
        return None if found is None else (principal_of_user(found[0], via="api"), None)


class RolePermission(BasePermission):
    """Ask the role table; a view names its row by `resource`, the action is DRF's."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.user, Principal):
            return False  # DRF answers 401, since nobody is authenticated
        action = getattr(view, "action", None) or ("list" if not hasattr(view, "action_map") else None)
        # A method that the view does not have is answered 405 by DRF, to everyone alike.
        if action is not None and action != "metadata":
            roles.require(request.user, getattr(view, "resource", ""), action)
        return True
