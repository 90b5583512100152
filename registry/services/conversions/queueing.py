"""Messages that say where to look. Losing one only delays: the sweep sends it again."""

from registry.models import ConversionJob, Reproduction


def send_on_commit(work: ConversionJob | Reproduction) -> None:
    """Wake a worker of the queue that the work belongs to, once the transaction stands."""
    from registry import tasks  # noqa: PLC0415 - tasks call services, so the name is bound late

    task = tasks.run_conversion_job if isinstance(work, ConversionJob) else tasks.run_reproduction
    tasks.enqueue_on_commit(task, work.pk, queue=work.queue)
