"""Celery tasks of experiments: load by id, call one function."""

from celery import shared_task
from django.conf import settings
from django.utils import timezone


@shared_task
def perform_due_experiments() -> None:
    """Scheduled starts, steps whose conditions are met, exceptions that expire."""
    from experiments import services  # noqa: PLC0415

    now = timezone.now()
    services.expire_exceptions(now)
    services.start_due(now)
    services.advance_due(now)


@shared_task
def look_at_experiments() -> None:
    """Count, measure and judge whatever is served, and stop what has to be stopped."""
    from experiments import analysis  # noqa: PLC0415

    analysis.look_at_all(timezone.now())


@shared_task
def look_at_experiment(experiment_id: int) -> None:
    """At once, because something came in that cannot wait for beat."""
    from experiments import analysis  # noqa: PLC0415
    from experiments.models import Experiment  # noqa: PLC0415

    experiment = Experiment.objects.served().filter(pk=experiment_id).first()
    if experiment is not None:
        analysis.look(experiment, timezone.now())


@shared_task
def keep_event_tables() -> None:
    """Partitions ahead of time; old events, ids and units forgotten, and batches that were put aside."""
    from experiments import partitions  # noqa: PLC0415
    from experiments.event_stream import drop_dead_letters, event_stream  # noqa: PLC0415

    now = timezone.now()
    partitions.keep_tables(now, settings.AEROGRAM_EVENT_RETENTION)
    with event_stream() as stream:
        drop_dead_letters(stream, now - settings.AEROGRAM_EVENT_RETENTION)
