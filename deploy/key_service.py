"""The key service as a WSGI application: a process of its own, for it alone faces phones and opens the database."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "deploy.key_settings"
application = get_wsgi_application()
