"""Which experiment events are put into: of the channel that the device follows, by the classes the phase began with."""

from datetime import timedelta

import pytest

from experiments.models import DeviceEvent, Exposure, Layer
from experiments.services.phases import eligibility
from registry.models import DeviceClass
from tests.experiments import measured
from tests.experiments.measured import event, passed, report, units
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
LATER = NOW + timedelta(hours=3)


def both(of, other):
    """A unit that takes part in either."""
    return next(unit for unit in units(of, "treatment", 200) if unit in set(units(other, "treatment", 200)))


@pytest.mark.parametrize(("channel", "placed"), [("production", True), ("staging", False), (None, True)])
def test_an_event_belongs_to_the_experiments_of_its_channel(of, event_stream, ingested, channel, placed):
    [unit] = units(of, "treatment", 1)
    report(event_stream, unit, *passed(2, "assigned"), **({"channel": channel} if channel else {}))
    ingested()
    assert Exposure.objects.exists() is placed
    assert DeviceEvent.objects.get().channel == (channel or "")


def test_two_channels_that_try_the_same_model_are_kept_apart(of, event_stream, ingested):
    other = measured.experiment(slug="second", on="staging")
    unit = both(of, other)
    report(event_stream, unit, *passed(2, "assigned", "activate"), channel="staging")
    report(event_stream, unit, *passed(2, "assigned", "offered"), channel="production")
    report(event_stream, unit, *passed(2, "first_inference"))  # of an SDK that does not say: nobody's
    ingested()
    assert dict(Exposure.objects.values_list("phase_id", "reached")) == {of.phase.pk: 1, other.phase.pk: 7}
    assert DeviceEvent.objects.get(stage="first_inference").phase_id is None


def in_layer(of, slug):
    """`of` in a layer of its own, so that its buckets are drawn apart from those of other experiments."""
    of.layer, _ = Layer.objects.get_or_create(channel=of.channel, model=of.model, slug=slug)
    of.save()
    measured.phase(of, 5000, NOW)
    return of


@pytest.mark.parametrize("later_phase_of", ["first", "second"])
def test_of_two_layers_the_experiment_that_devices_are_served(of, event_stream, ingested, later_phase_of):
    """The one that was written down first, as `decide()` has it, whichever went a step further last."""
    other = in_layer(measured.experiment(slug="second"), "other")
    measured.phase({"first": of, "second": other}[later_phase_of], 5000, NOW)
    unit = both(of, other)
    report(event_stream, unit, event("assigned", version=2, experiment=of.slug, phase=of.phase.number))
    ingested()
    row = Exposure.objects.get()
    assert (row.phase_id, row.assigned_at is not None) == (of.phase.pk, True)


def test_without_a_channel_the_only_one_that_tries_the_model_then_is_meant(of, event_stream, ingested):
    other = measured.experiment(slug="second", on="staging")
    unit = both(of, other)
    other.phases.update(closed_at=LATER)
    report(event_stream, unit, event("activate", version=2, at=LATER), received_at=LATER)
    ingested()
    assert Exposure.objects.get().phase_id == of.phase.pk


def test_an_edited_class_moves_no_unit_of_the_phase(of, event_stream, ingested):
    early, late = units(of, "treatment", 2)
    report(event_stream, early, *passed(2, "assigned"))
    ingested()
    DeviceClass.objects.filter(name="high").update(selector={"ram_mb_min": 16_000})
    for unit in (early, late):
        report(event_stream, unit, *passed(2, "assigned", "activate"))
    ingested()
    assert set(Exposure.objects.values_list("unit", "device_class")) == {(early, "high"), (late, "high")}
    following = measured.phase(of, 6000, LATER)
    report(event_stream, early, event("assigned", version=2, at=LATER), received_at=LATER)
    ingested()
    assert Exposure.objects.get(phase=following).device_class == "low"


def test_a_phase_that_kept_no_classes_goes_by_those_of_now(of, event_stream, ingested, monkeypatch):
    monkeypatch.setattr(measured, "class_rules", lambda _of: {})
    measured.phase(of, 5000, NOW)
    DeviceClass.objects.filter(name="high").update(selector={"ram_mb_min": 16_000})
    [unit] = units(of, "treatment", 1)
    report(event_stream, unit, *passed(2, "assigned"))
    ingested()
    assert Exposure.objects.get().device_class == "low"


@pytest.mark.parametrize("soc", ["SM8550", "Snapdragon 8 Gen 2"])
def test_a_chip_is_known_by_all_its_names_as_where_it_is_served(event_stream, ingested, soc, monkeypatch):
    of = measured.experiment()
    DeviceClass.objects.filter(name="high").update(selector={"soc": ["Snapdragon 8 Gen 2"]})
    measured.phase(of, 5000, NOW)
    monkeypatch.setitem(measured.PROFILES, "chip", {"os": "android", "soc": soc})
    [unit] = units(of, "treatment", 1)
    report(event_stream, unit, *passed(2, "assigned"), profile="chip")
    ingested()
    assert Exposure.objects.get().device_class == "high"


def test_a_phase_keeps_the_classes_as_they_are_published_in_their_order(of):
    DeviceClass.objects.filter(name="high").update(selector={"soc": ["Snapdragon 8 Gen 2"]})
    high, low = eligibility(of)["class_rules"]
    assert (high["name"], low["name"], low["selector"]) == ("high", "low", {})
    assert {"SM8550", "Snapdragon 8 Gen 2"} <= set(high["selector"]["soc"])
