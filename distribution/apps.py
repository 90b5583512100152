"""What devices get, as a Django application: registers its checks, and hands experiments what they may not import."""

from django.apps import AppConfig


class DistributionConfig(AppConfig):
    name = "distribution"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from distribution import checks  # noqa: F401, PLC0415 - registers itself
        from distribution.arms import ArmDelivery  # noqa: PLC0415 - models are ready only now
        from distribution.protection import checks as protection_checks  # noqa: F401, PLC0415
        from experiments.delivery import provide  # noqa: PLC0415

        provide(ArmDelivery())
