from getpass import getuser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from distribution.trust.rotation import forget_retired_keys, rotate_online_key
from registry.errors import DomainError
from registry.models import Application


class Command(BaseCommand):
    help = "Replace the key of snapshot, timestamp or releases-<channel>. Run it where the worker's keys are."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("application")
        parser.add_argument("role")
        parser.add_argument("--forget", action="store_true", help="Delete the old key: once the new one is named.")

    def handle(self, *_arguments: Any, application: str, role: str, forget: bool, **_options: Any) -> None:
        found = Application.objects.filter(slug=application).first()
        if found is None:
            raise CommandError(f"expected the name of an application, got {application!r}")
        turn: dict[str, Any] = {"application": found, "role": role, "actor": getuser(), "now": timezone.now()}
        try:
            if forget:
                self.stdout.write(f"{role}: {forget_retired_keys(**turn)} old keys deleted")
            else:
                above = "targets" if role.startswith("releases-") else "root"
                self.stdout.write(f"{role}: new key {rotate_online_key(**turn)}; now the next {above} must name it")
        except DomainError as error:
            raise CommandError(str(error)) from error
