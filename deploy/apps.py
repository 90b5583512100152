from django.apps import AppConfig


class DeployConfig(AppConfig):
    """Commands of the whole system; it has no models."""

    name = "deploy"
