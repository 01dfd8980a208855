"""The page of Find: one box, every hop, and why the newest of them does not move."""

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from endpoints.edge.model_pages import require
from messaging import store
from messaging.admin.lists import page_context
from messaging.services.trace import Trace, trace
from messaging.services.why.asked import ask
from messaging.services.why.marks import at


def find_page(request: HttpRequest) -> HttpResponse:
    """Show what is known under the id or key that was asked for."""
    principal = require(request, "find", "list")
    query, before = request.GET.get("q", "").strip()[:300], request.GET.get("before", "")
    position = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    now = store.now()
    found = trace(query, principal, now, position) if query else None
    answer = ask(query, principal, now).answer if found and found.hops and position is None else None
    context = page_context(
        request,
        "Find",
        subtitle=query,
        query=query,
        trace=found,
        why=answer,
        kept=_kept(found),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/find.html", context)


def _kept(found: Trace | None) -> str:
    return f"No message from before {at(found.kept_since)} is kept" if found and found.kept_since else ""
