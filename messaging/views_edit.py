"""The page that edits a message and sends it as a new one, after showing what is different."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_http_methods

from endpoints.edge.model_pages import require
from endpoints.errors import ControlPlaneError
from messaging.admin.lists import page_context
from messaging.forms_edit import EditForm
from messaging.models import Message
from messaging.services import lookup, sending


@require_http_methods(["GET", "POST"])
def send_as_new_page(request: HttpRequest, position: int) -> HttpResponse:
    """Edit a message; on POST show the difference, and once that is confirmed send it and land on the new one."""
    by = require(request, "messages", "replay")
    message: Message = get_object_or_404(lookup.messages(by, with_payload=True), pk=position)
    if message.payload is None:
        messages.error(request, "The payload was removed by retention, there is nothing left to send.")
        return redirect("admin:messaging_message_change", message.pk)
    stored = bytes(message.payload) if request.method == "POST" else lookup.view_payload(message, by=by)
    form = EditForm(message, stored or b"", request.POST or None)
    is_good = request.method == "POST" and form.is_valid()
    if is_good and "confirmed" in request.POST:
        try:
            accepted = sending.replay(message, by=by, edit=form.edit())
        except ControlPlaneError as error:
            form.add_refusal(error)
            is_good = False
        else:
            new = get_object_or_404(Message.objects.only("pk"), message_id=accepted.message_id, source=message.source)
            messages.success(request, "Accepted as a new message: it is stored and on its way.")
            return redirect("admin:messaging_message_change", new.pk)
    is_review = is_good and "again" not in request.POST
    if is_review:  # the difference shows what is stored
        lookup.view_payload(message, by=by)
    context = page_context(
        request,
        "Send as new",
        subtitle=message.message_id,
        message=message,
        form=form,
        is_review=is_review,
        changes=form.changes() if is_review else {},
        typed=[(name, request.POST.get(name, "")) for name in form.fields] if is_review else [],
        opts=None,
    )
    is_wrong = form.is_bound and not is_good
    return TemplateResponse(request, "controlplane/send_as_new.html", context, status=422 if is_wrong else 200)


urlpatterns = [
    path("messages/<int:position>/send-as-new/", admin.site.admin_view(send_as_new_page), name="send-as-new"),
]
