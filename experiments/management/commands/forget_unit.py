from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from experiments.event_stream import event_stream
from experiments.forgetting import forget_unit
from registry.models import Application


class Command(BaseCommand):
    help = "Deletes everything that is kept of one installation: its events, what became of it, waiting batches."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("application")
        parser.add_argument("unit", help="the installation's id, as its app shows it")
        parser.add_argument("--actor", default="operator", help="who asks for it, for the audit log")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        application = Application.objects.filter(slug=options["application"]).first()
        if application is None:
            raise CommandError(f"expected an application, there is no {options['application']!r}")
        with event_stream() as stream:
            found = forget_unit(
                application=application,
                unit=options["unit"],
                stream=stream,
                actor=options["actor"],
                now=timezone.now(),
            )
        self.stdout.write(
            f"forgotten: {found.events} events, {found.exposures} outcomes, {found.waiting} waiting batches, "
            f"{found.overrides} overrides, {found.pins} pins and devices"
        )
