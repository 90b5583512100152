"""The control plane as a WSGI application."""

import os

from django.core.wsgi import get_wsgi_application

import deploy.celery  # noqa: F401 - see manage.py

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")
application = get_wsgi_application()
