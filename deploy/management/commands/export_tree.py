from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from deploy.published_tree import published_tree
from distribution.device_plane.state import DamagedTreeError
from distribution.tree_export import export_tree


class Command(BaseCommand):
    help = "Write the published files of all applications, or of one, below a folder that a web server or CDN serves."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("destination", type=Path)
        parser.add_argument("--application", help="Only this one.")

    def handle(self, *_arguments: Any, destination: Path, application: str | None, **_options: Any) -> None:
        tree = published_tree(settings.BLOB_STORE_URL)
        for name in [application] if application else tree.applications():
            if tree.fingerprint(name) is None:
                self.stdout.write(f"{name}: nothing is published")
                continue
            try:
                done = export_tree(tree, name, destination)
            except DamagedTreeError as error:
                raise CommandError(str(error)) from error
            self.stdout.write(f"{name}: revision {done.revision}, {done.written} files written")
