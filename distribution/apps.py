"""What devices get, as a Django application: registers its checks, and hands experiments what they may not import."""

from typing import Any

from django.apps import AppConfig


class DistributionConfig(AppConfig):
    name = "distribution"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from distribution import checks  # noqa: F401, PLC0415 - registers itself
        from distribution.arms import ArmDelivery  # noqa: PLC0415 - models are ready only now
        from distribution.protection import checks as protection_checks  # noqa: F401, PLC0415
        from experiments.delivery import provide  # noqa: PLC0415
        from registry.signals import version_yanked  # noqa: PLC0415

        provide(ArmDelivery())
        version_yanked.connect(_publish_at_once, dispatch_uid="distribution.publish_at_once")


def _publish_at_once(*, version: Any, **_: object) -> None:
    """The request to publish stands in the same transaction; beat would find it some seconds later."""
    from distribution import tasks  # noqa: PLC0415 - models are ready only now
    from registry.tasks import enqueue_on_commit  # noqa: PLC0415

    enqueue_on_commit(tasks.publish_application, version.model.application_id, queue="publish")
