"""The registry app."""

from django.apps import AppConfig


class EndpointsConfig(AppConfig):
    name = "endpoints"
    verbose_name = "Registry"

    def ready(self) -> None:
        """Tell Django of the checks; they import models, which are there only now."""
        from django.core.checks import Tags, register

        from endpoints.checks import secrets_can_be_opened, transports_can_be_used

        register(secrets_can_be_opened, Tags.database)
        register(transports_can_be_used)
