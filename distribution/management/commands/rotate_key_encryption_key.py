"""`manage.py rotate_key_encryption_key`: wrap content keys under the first key-encryption key."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from distribution.protection.services import rotate_key_encryption_key
from registry.errors import DomainError


class Command(BaseCommand):
    help = "Wrap everything that is wrapped under another key-encryption key under the first one of the file."

    def handle(self, *_arguments: Any, **_options: Any) -> None:
        try:
            changed = rotate_key_encryption_key(actor="command line", now=timezone.now())
        except DomainError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{changed} keys wrapped anew; lines after the first one are not needed any more.")
