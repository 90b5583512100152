"""Settings of the key service: the control plane's, with the routes that phones ask and nothing else."""

from deploy.settings import *  # noqa: F403 - the same database, secrets and limits

ROOT_URLCONF = "deploy.key_urls"
WSGI_APPLICATION = "deploy.key_service.application"
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
# Phones ask under the device plane's name; no answer names a host.
ALLOWED_HOSTS = ["*"]
