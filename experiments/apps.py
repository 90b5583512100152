from datetime import datetime
from typing import Any

from django.apps import AppConfig


class ExperimentsConfig(AppConfig):
    name = "experiments"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from registry.signals import version_yanked  # noqa: PLC0415 - as its receiver

        version_yanked.connect(_withdraw, dispatch_uid="experiments.withdraw")


def _withdraw(*, version: Any, actor: str, now: datetime, reason: str, **_: object) -> None:
    from experiments import services  # noqa: PLC0415 - models are ready only now

    services.withdraw(version=version, actor=actor, now=now, reason=reason)
