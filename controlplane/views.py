"""The few pages that belong to no app."""

from django.contrib import admin
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlsafe_base64_decode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from endpoints.access import audit
from endpoints.access.principal import Principal


@never_cache
@sensitive_variables("token")
@require_http_methods(["GET", "HEAD", "POST"])
def login_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Log in whoever holds a fresh link, once.

    GET only shows a button: mail scanners and link previews fetch links, and must
    not use them up. A used, old or made-up link leads to the ordinary login.
    """
    user = _user(uid)
    if user is None or not default_token_generator.check_token(user, token):
        return HttpResponseRedirect(f"{reverse('admin:login')}?link=used")
    if request.method != "POST":
        return render(request, "controlplane/login_link.html", {**admin.site.each_context(request), "person": user})
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    audit.record(Principal(label=f"user:{user.get_username()}", role="admin", via="admin"), "login_link", user)
    return HttpResponseRedirect(reverse("admin:index"))


def _user(uid: str) -> User | None:
    try:
        return User.objects.filter(pk=int(urlsafe_base64_decode(uid)), is_active=True).first()
    except (ValueError, OverflowError):
        return None
