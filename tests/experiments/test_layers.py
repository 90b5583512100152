"""What PostgreSQL itself refuses, whatever the services do."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from experiments.models import Arm, Experiment, Layer, LayerAllocation, Phase
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


@pytest.fixture
def layer():
    app = factories.application()
    version = factories.version(app)
    return Layer.objects.create(channel=app.channels.get(), model=version.model)


def experiment(layer, slug="first", **said):
    return Experiment.objects.create(
        application=layer.channel.application,
        channel=layer.channel,
        model=layer.model,
        slug=slug,
        kind="ab",
        layer=layer,
        created_by="ada",
        created_at=NOW,
        **said,
    )


def claim(layer, of, first, end, **said):
    return LayerAllocation.objects.create(
        layer=layer, experiment=of, first_bucket=first, end_bucket=end, claimed_at=NOW, **said
    )


@pytest.mark.parametrize("span", [(0, 10_000), (4999, 5001), (0, 1), (4999, 5000), (10, 20)])
def test_no_bucket_of_a_layer_is_held_twice(layer, span):
    of = experiment(layer)
    claim(layer, of, 0, 5000)
    with pytest.raises(IntegrityError, match="allocation_exclusive"), transaction.atomic():
        claim(layer, of, *span)
    claim(layer, of, 5000, 10_000)


def test_another_layer_and_a_released_range_are_free(layer):
    of = experiment(layer)
    claim(layer, of, 0, 10_000, released_at=NOW)
    claim(layer, of, 0, 10_000)
    claim(Layer.objects.create(channel=layer.channel, model=layer.model, slug="other"), of, 0, 10_000)


def test_of_fifty_that_claim_one_range_at_once_one_gets_it(layer):
    of, barrier = experiment(layer), Barrier(50)

    def attempt(index):
        try:
            connection.ensure_connection()
            barrier.wait(300)
            claim(layer, of, 9999 - index % 2, 10_000)
        except DatabaseError:  # of two that wait for each other PostgreSQL also ends one as a deadlock
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(attempt, range(50))) <= 1
    assert LayerAllocation.objects.count() <= 1


@pytest.mark.parametrize("span", [(5, 5), (6, 5), (0, 10_001)])
def test_a_range_lies_within_the_buckets(layer, span):
    with pytest.raises(IntegrityError, match="allocation_within_10000_buckets"), transaction.atomic():
        claim(layer, experiment(layer), *span)


def test_phases_and_arms_do_not_change_but_for_the_end(layer):
    of = experiment(layer)
    phase = Phase.objects.create(
        experiment=of,
        number=1,
        cause="start",
        percent_bp=100,
        seed=1,
        layer_salt=layer.salt,
        layer_first=0,
        layer_end=10_000,
        arm_salt=of.arm_salt,
        opened_by="ada",
        opened_at=NOW,
    )
    arm = Arm.objects.create(phase=phase, name="treatment", ranges=[[0, 100]])
    for row, change in ((phase, {"seed": 2}), (phase, {"percent_bp": 1}), (arm, {"ranges": [[0, 200]]})):
        with pytest.raises(IntegrityError, match="does not change"), transaction.atomic():
            type(row).objects.filter(pk=row.pk).update(**change)
    with pytest.raises(IntegrityError, match="one_open_phase_per_experiment"), transaction.atomic():
        Phase.objects.create(**{**vars_of(phase), "number": 2})
    Phase.objects.filter(pk=phase.pk).update(closed_at=NOW)
    Phase.objects.create(**{**vars_of(phase), "number": 2})


def vars_of(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.fields if not field.primary_key}


def test_every_write_of_an_experiment_is_counted(layer):
    of = experiment(layer)
    of.hypothesis = "faster"
    of.save()
    of.refresh_from_db()
    assert of.row_version == 2
