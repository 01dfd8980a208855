"""The page that shows what is committed, while it is: an event stream in the browser."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path

from endpoints.edge.model_pages import may, require
from messaging.admin.lists import page_context, system_slugs

FILTERS = ("event_type", "source_system", "target_system")


def stream_page(request: HttpRequest) -> HttpResponse:
    """Show the page; what fills it comes over its line (`messaging.consumers`), filtered as the address says."""
    principal = require(request, "messages", "list")
    given = {name: request.GET.get(name, "").strip() for name in FILTERS}
    context = page_context(
        request,
        "Live stream",
        given=given,
        systems=system_slugs(principal),
        may_send=may(request, "messages", "create"),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/stream.html", context)


urlpatterns = [path("stream/", admin.site.admin_view(stream_page), name="stream")]
