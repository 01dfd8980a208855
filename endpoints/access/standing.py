"""What a caller may do by now: one that has gone is found by a short reference that rows keep, and asked for anew."""

from django.contrib.auth.models import User

from endpoints.access.authenticate import principal_of_key, principal_of_user
from endpoints.access.principal import COMMAND, Principal
from endpoints.errors import Unauthenticated
from endpoints.models import ApiKey

TOKEN = "token"  # noqa: S105 - it ends by itself, and nobody here knows what its bearer may do by then


def reference(principal: Principal) -> str:
    """Return what a row keeps of a caller, to ask again later what it may do; `TOKEN` when nobody can say."""
    if principal.key_id:
        return f"key:{principal.key_id}"
    if principal.user_id is not None:
        return f"user:{principal.user_id}"
    return "command" if principal.label == COMMAND.label else TOKEN


def standing(kept: str, label: str) -> Principal:
    """Return the caller as it is now; raises Unauthenticated when it is gone, `label` being what it was called."""
    kind, _, pk = kept.partition(":")
    try:
        if kind == "key":
            return principal_of_key(ApiKey.objects.select_related("system").filter(pk=pk).first())[0]
        if kind == "user":
            return principal_of_user(User.objects.get(pk=pk))
    except (Unauthenticated, User.DoesNotExist) as exc:
        raise Unauthenticated(f"'{label}' may act no more") from exc
    if kept == "command":
        return COMMAND
    raise Unauthenticated(f"'{label}' spoke by a token, which cannot be asked again; use a key or a user's account")
