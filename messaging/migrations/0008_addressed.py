from typing import Any

from django.db import migrations, models
from django.db.models import OuterRef, Q, Subquery


def copy_recipients(apps: Any, schema_editor: Any) -> None:
    """Say of what was accepted before whom it is for, whatever became of it: it may be sent again."""
    delivery, message = (apps.get_model("messaging", name) for name in ("Delivery", "Message"))
    theirs = message.objects.filter(pk=OuterRef("message_id")).values("recipient")
    addressed = delivery.objects.filter(message__in=message.objects.filter(~Q(recipient="")).order_by())
    addressed.order_by().update(recipient=Subquery(theirs))


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0007_gateway_presence"),
    ]

    operations = [
        migrations.AddField(
            model_name="delivery",
            name="recipient",
            field=models.CharField(editable=False, max_length=200, null=True),
        ),
        migrations.RunPython(copy_recipients, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=Q(("state", "pending"), Q(("reason", "blocked"), _negated=True), ("recipient__isnull", False)),
                fields=["system", "interface", "recipient", "priority", "due_at"],
                name="delivery_addressed",
            ),
        ),
    ]
