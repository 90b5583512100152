"""Find what an address names."""

from experiments.errors import ExperimentNotFound
from experiments.models import Experiment, Layer
from registry.errors import NotFound
from registry.models import Application


def find_experiment(application: Application, slug: str) -> Experiment:
    row = application.experiments.select_related("channel__application", "model", "layer").filter(slug=slug).first()
    if row is None:
        raise ExperimentNotFound(f"expected the name of an experiment of {application}, got {slug!r}")
    return row


def find_layer(application: Application, pk: int) -> Layer:
    row = Layer.objects.filter(channel__application=application, pk=pk).select_related("channel", "model").first()
    if row is None:
        raise NotFound(f"expected the id of a layer of {application}, got {pk}", field="layer")
    return row
