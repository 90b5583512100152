import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.utils import timezone

from registry import services
from registry.models import ApiToken, Application

ADMINISTRATOR = "admin"
DEMO = "demo"
TOKEN_LIFE = timedelta(days=365)


class Command(BaseCommand):
    help = "Makes what a new installation lacks: an administrator, a token for scripts, the application `demo`."

    def handle(self, *_arguments: Any, **_options: Any) -> None:
        self._administrator()
        self._token(settings.VAR_DIR / "secrets" / "api-token")
        if not Application.objects.filter(slug=DEMO).exists():
            services.create_application(slug=DEMO, name="Demonstration", actor=ADMINISTRATOR, now=timezone.now())

    def _administrator(self) -> None:
        users = get_user_model()
        if users.objects.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(12)
        users.objects.create_superuser(ADMINISTRATOR, password=password)
        self.stdout.write(f"Administrator: {ADMINISTRATOR}   password, shown this once: {password}")

    def _token(self, path: Path) -> None:
        """A token in a file that only this user can read; made again when it is missing or no longer known."""
        if path.exists() and ApiToken.objects.filter(token_sha256=ApiToken.hash(path.read_text().strip())).exists():
            return
        user = get_user_model().objects.filter(is_superuser=True).earliest("pk")
        now = timezone.now()
        _, token = ApiToken.issue(user=user, name="first run", now=now, expires_at=now + TOKEN_LIFE)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(token + "\n")
