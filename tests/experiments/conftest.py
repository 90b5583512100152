"""A running channel with two versions of a model, and people of both hands."""

from datetime import timedelta

import pytest

from experiments import ingest, services
from tests import factories
from tests.experiments import measured
from tests.factories import NOW, Clock


class Lab:
    """An application whose channel has version 1, with version 2 (and more) ready to be tried."""

    def __init__(self) -> None:
        from distribution import services as releasing

        self.clock = Clock()
        self.app = factories.application()
        self.channel = self.app.channels.get()
        self.versions = {1: factories.converted_version(self.app)}
        self.model = self.versions[1].model
        releasing.publish(channel=self.channel, version=self.versions[1], actor="ada", now=NOW)
        self.versions[2] = factories.converted_version(self.app)

    def said(self, actor="ada", reason="because", **more):
        return {"actor": actor, "now": self.clock(), "reason": reason, **more}

    def rollout(self, slug="faster", version=2, **more):
        told = {"slug": slug, "kind": "rollout", "version": version} | more
        return services.create(channel=self.channel, model=self.model, **self.said(), **told)

    def ab(self, slug="compare", **more):
        arms = [{"name": "old", "version": 1, "control": True}, {"name": "new", "version": 2}]
        told = {"slug": slug, "kind": "ab", "arms": arms} | more
        return services.create(channel=self.channel, model=self.model, **self.said(), **told)

    def approved(self, experiment):
        services.submit(experiment=experiment, **self.said())
        services.approve(experiment=experiment, **self.said("grace"))
        return experiment

    def running(self, experiment=None, **more):
        experiment = self.approved(experiment or self.rollout(**more))
        services.start(experiment=experiment, **self.said())
        return experiment

    def do(self, verb, experiment, actor="ada", **more):
        getattr(services, verb)(experiment=experiment, **self.said(actor), **more)
        return experiment


@pytest.fixture
def lab(services, own_store):
    return Lab()


@pytest.fixture
def of():
    """An experiment that events may be put into."""
    return measured.experiment()


@pytest.fixture
def ingested(event_stream):
    """Brings all events of the stream into the database, and lets a minute pass."""
    clock = Clock(NOW + timedelta(hours=2))
    ingester = ingest.Ingester(event_stream, clock)
    ingester.prepare()

    def step():
        while event_stream.xlen(ingest.STREAM):
            ingester.step()
        clock.advance(minutes=1)

    return step
