"""What gates let through, what they block, and what a release then holds."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution import errors as distribution_errors
from distribution import services as distribution
from distribution.models import released_variants
from registry import errors, services
from registry.conversion.gates import Gates, GatesError, Measured, misses, missing_recipes
from tests import factories
from tests.factories import NOW

F32, F16 = "tflite-float32", "tflite-float16"
PARITY = {"max_abs_error": 0.0}
database = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


def codes(gates, *, report=None, size_bytes=10, benchmarks=(), device_classes=("phones",)):
    found = misses(
        Gates.from_json(gates),
        report={"parity": PARITY, **(report or {})},
        size_bytes=size_bytes,
        benchmarks=benchmarks,
        device_classes=device_classes,
    )
    return [miss.code for miss in found]


LOSS, FAST = {"max_accuracy_loss": "0.02"}, {"max_latency_us": {"phones": 100}}


@pytest.mark.parametrize(
    ("gates", "given", "missed"),
    [
        ({}, {}, []),
        ({}, {"report": {"parity": None}}, ["not_evaluated"]),
        ({"max_bytes": 10}, {}, []),
        ({"max_bytes": 9}, {}, ["too_many_bytes"]),
        (LOSS, {}, ["accuracy_not_measured"]),
        (LOSS, {"report": {"accuracy": {"value": 0.97, "source_value": 0.99}}}, []),
        (LOSS, {"report": {"accuracy": {"value": 0.969, "source_value": 0.99}}}, ["accuracy_lost"]),
        (LOSS, {"report": {"accuracy": {"value": 0.5, "source_value": 0.99, "lost": 0.01}}}, []),
        (LOSS, {"report": {"accuracy": {"value": 0.97, "source_value": None}}}, ["accuracy_not_measured"]),
        (FAST, {}, ["latency_not_measured"]),
        (FAST, {"device_classes": ()}, []),
        (FAST, {"benchmarks": [Measured("phones", "a", 100)]}, []),
        (FAST, {"benchmarks": [Measured("phones", "a", 90), Measured("phones", "b", 101)]}, ["too_slow"]),
        (FAST, {"benchmarks": [Measured("tablets", "a", 50)]}, ["latency_not_measured"]),
    ],
)
def test_what_is_missed(gates, given, missed):
    assert codes(gates, **given) == missed


def test_required_recipes_are_of_the_release_as_a_whole():
    gates = Gates.from_json({"required_recipes": [F32, F16]})
    assert [miss.subject for miss in missing_recipes(gates, {F32})] == [F16]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"max_byte": 3},
        {"max_bytes": 0},
        {"max_bytes": True},
        {"max_bytes": 2**60},
        {"max_accuracy_loss": 0.02},
        {"max_accuracy_loss": "NaN"},
        {"max_accuracy_loss": "1.1"},
        {"max_accuracy_loss": "two"},
        {"max_latency_us": []},
        {"max_latency_us": {"phones": "fast"}},
        {"required_recipes": "tflite-float32"},
        {"required_recipes": ["tflite-int3"]},
    ],
)
def test_what_cannot_be_checked_is_refused_with_what_was_expected(document):
    with pytest.raises(GatesError, match=r"expected .*got"):
        Gates.from_json(document)


shares = st.decimals(0, 1, places=6).map(lambda share: format(share, "f"))
documents = st.fixed_dictionaries(
    {},
    optional={
        "max_accuracy_loss": shares,
        "max_bytes": st.integers(1, 2**53),
        "max_latency_us": st.dictionaries(st.sampled_from(["phones", "tablets"]), st.integers(1, 10**9), min_size=1),
        "required_recipes": st.lists(st.sampled_from([F32, F16]), unique=True, min_size=1),
    },
)


@given(documents)
def test_gates_survive_json(document):
    gates = Gates.from_json(document)
    assert Gates.from_json(gates.to_json()) == gates
    assert gates.to_json() == document


@given(st.decimals(-1, 1, places=4), st.decimals(0, 1, places=4))
def test_a_loss_is_missed_exactly_when_it_exceeds_its_gate(lost, most):
    report = {"accuracy": {"lost": float(lost), "value": 1.0, "source_value": 1.0}}
    is_missed = "accuracy_lost" in codes({"max_accuracy_loss": format(most, "f")}, report=report)
    assert is_missed is (Decimal(str(float(lost))) > most)


class TestReleasing:
    pytestmark = database

    @pytest.fixture
    def version(self):
        return factories.converted_version(factories.application(), names=(F32, F16))

    def gate(self, version, gates):
        services.set_gates(model=version.model, gates=gates, actor="ada", now=NOW)
        version.model.refresh_from_db()

    def publish(self, version):
        channel = version.model.application.channels.get()
        return distribution.publish(channel=channel, version=version, actor="ada", now=NOW)

    def sizes(self, version):
        return {variant.name: variant.size_bytes for variant in version.variants.all()}

    def test_a_blocked_variant_stays_out_and_an_override_lets_it_in(self, version):
        small, large = sorted(self.sizes(version).items(), key=lambda pair: pair[1])
        assert small[1] < large[1] or small[0] != large[0]
        services.set_gates(model=version.model, gates={"max_latency_us": {"everything-else": 5}}, actor="a", now=NOW)
        version.model.refresh_from_db()
        variant = version.variants.get(name=F32)
        measured = {"device_class": "everything-else", "p90_us": 9, "runs": 5, "actor": "a", "now": NOW}
        services.report_benchmark(variant=variant, device="Pixel", p50_us=4, **measured)
        release = self.publish(version)
        assert release.variants == [F32]
        assert not release.holds(F16)
        assert released_variants(type(release).objects.all()) == {version.pk: {F32}}
        with pytest.raises(distribution_errors.AlreadyReleased):
            self.publish(version)
        blocked = version.variants.get(name=F16)
        services.override_gates(variant=blocked, reason="x", actor="ada", now=NOW)
        assert self.publish(version).variants == [F16, F32]
        with pytest.raises(errors.NothingToOverride):
            services.override_gates(variant=blocked, reason="x", actor="ada", now=NOW)

    def test_an_override_covers_the_misses_that_were_seen_and_no_others(self, version):
        self.gate(version, {"max_bytes": 3})
        variant = version.variants.get(name=F32)
        services.override_gates(variant=variant, reason="x", actor="ada", now=NOW)
        assert services.releasable_variants(version) == [variant]
        self.gate(version, {"max_bytes": 2})
        assert services.releasable_variants(version) == []

    def test_a_refusal_names_each_miss(self, version):
        self.gate(version, {"max_bytes": 3, "required_recipes": [F32, "coreml-fp16"]})
        with pytest.raises(distribution_errors.GatesMissed) as refusal:
            self.publish(version)
        for told in ("coreml-fp16", "tflite-float32 expected at most 3 bytes", "tflite-float16 expected at most"):
            assert told in str(refusal.value)

    def test_a_required_recipe_that_is_blocked_is_lacking(self, version):
        self.gate(version, {"max_latency_us": {"everything-else": 5}, "required_recipes": [F16]})
        measured = {"device_class": "everything-else", "p90_us": 9, "runs": 5, "actor": "a", "now": NOW}
        services.report_benchmark(variant=version.variants.get(name=F32), device="Pixel", p50_us=4, **measured)
        with pytest.raises(distribution_errors.GatesMissed, match=F16):
            self.publish(version)

    def test_gates_of_unknown_classes_and_wrong_benchmarks_are_refused(self, version):
        with pytest.raises(errors.GatesRefused, match="watches"):
            self.gate(version, {"max_latency_us": {"watches": 5}})
        measured = {"device": "x", "p50_us": 9, "runs": 5, "actor": "a", "now": NOW}
        variant = version.variants.get(name=F32)
        with pytest.raises(errors.Invalid, match="watches"):
            services.report_benchmark(variant=variant, device_class="watches", p90_us=9, **measured)
        with pytest.raises(errors.Invalid, match="p90_us"):
            services.report_benchmark(variant=variant, device_class="everything-else", p90_us=8, **measured)
