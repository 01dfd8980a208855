"""Django's last words, 400 to 500 outside DRF: a problem for programs, a page for people."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.shortcuts import render
from django.urls import Resolver404, resolve
from django.views import defaults

from endpoints.edge.exceptions import is_api, problem_response
from endpoints.errors import ControlPlaneError, Forbidden, Malformed, NotFound


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404; when only the last slash is missing, send people there and tell programs.

    A POST cannot be redirected without losing its body, so the API never redirects.
    """
    meant = f"{request.path}/"
    near = not request.path.endswith("/") and _exists(meant)
    if is_api(request):
        hint = f"; did you mean {meant} with its last slash" if near else ""
        return problem_response(NotFound(f"there is nothing at {request.path}{hint}"))
    if near and request.method in ("GET", "HEAD"):
        return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
    return _page_not_found(request)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400, for what Django refuses before any view."""
    if not is_api(request):
        return defaults.bad_request(request, exception)
    return problem_response(Malformed("the request is not acceptable"))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403."""
    if not is_api(request):
        return defaults.permission_denied(request, exception)
    return problem_response(Forbidden("not allowed"))


def server_error(request: HttpRequest, *args: Any) -> HttpResponse:
    """Answer 500: a bug of ours; the log has the traceback, the answer does not."""
    if not is_api(request):
        return defaults.server_error(request)
    return problem_response(ControlPlaneError("something broke on our side; the log has the details"))


def _page_not_found(request: HttpRequest) -> HttpResponse:
    """Show people the way back: within the admin's frame whoever is signed in, the bare page anyone else."""
    context = admin.site.each_context(request)
    layout = "admin/base_site.html" if context["has_permission"] else "unfold/layouts/unauthenticated.html"
    return render(request, "404.html", {**context, "layout": layout, "title": "Not found"}, status=404)


def _exists(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True
