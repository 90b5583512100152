"""The composition root as a Django application: commands of the whole system, and the admin site of all."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class DeployConfig(AppConfig):
    """Commands of the whole system; it has no models."""

    name = "deploy"


class AerogramAdminConfig(AdminConfig):
    default_site = "deploy.admin_site.AerogramAdminSite"
