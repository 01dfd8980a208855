"""When loops of ours last did their round: a heart may go on beating beside a loop that hangs."""

from datetime import datetime

from messaging.models import Measurement


def tick(name: str, now: datetime) -> None:
    """Note that what goes by this name did its round."""
    if not Measurement.objects.filter(name=name).update(at=now):
        Measurement.objects.create(name=name, at=now)
