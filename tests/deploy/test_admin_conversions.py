"""The admin's pages about conversions write through the services, and show what the rows say."""

import pytest

from registry.conversion.report import Report
from registry.models import (
    AuditEntry,
    ConversionJob,
    GateOverride,
    JobState,
    ModelVersion,
    RegisteredModel,
    Reproduction,
)
from registry.services.conversions import queueing
from tests import factories
from tests.deploy.test_admin import administrator, filled, url  # noqa: F401 fixtures
from tests.factories import NOW
from tests.registry.fake_conversions import FOUND

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
F32, F16 = "tflite-float32", "tflite-float16"


@pytest.fixture(autouse=True)
def _faked(monkeypatch):
    monkeypatch.setattr(queueing, "send_on_commit", lambda _work: None)
    monkeypatch.setattr("registry.inspection.inspect_source", lambda _path, _name: FOUND)


def test_buttons_steer_and_the_page_tells_what_became_of_it(administrator, filled):  # noqa: F811
    page, steer = url(ModelVersion, "change", filled.pk), url(ModelVersion, "steer", filled.pk)
    administrator.post(url(ModelVersion, "recipes", filled.pk), {"recipe": [F16]})
    job = ConversionJob.objects.get(recipe=F16)
    administrator.post(steer, {"action": "priority", "recipe": F16, "priority": "4"})
    assert job.claim(NOW)
    job.beat(NOW, progress={"step": "calibrating", "percent": 40}, log_tail="a line of its log")
    shown = administrator.get(page).content.decode()
    for told in ("calibrating, 40 %", "priority 4", "a line of its log", "Cancel all"):
        assert told in shown, told
    rows = administrator.get(url(ModelVersion, "progress", filled.pk)).json()["rows"]
    told = {"state": "running", "state_shown": "running", "step": "calibrating", "percent": 40}
    assert {"recipe": F16, "log_tail": "a line of its log", **told} in rows
    administrator.post(steer, {"action": "cancel", "recipe": F16})
    assert "is being stopped" in administrator.get(page).content.decode()
    job.refresh_from_db()
    job.finish(
        state=JobState.FAILED, report={"state": "failed", "error": {"code": "x", "detail": "got a stone"}}, now=NOW
    )
    administrator.post(steer, {"action": "retry", "recipe": F16})
    administrator.post(steer, {"action": "cancel-all"})
    administrator.post(steer, {"action": "reproduce", "recipe": F32})
    assert Reproduction.objects.get().requested_by == "root"
    shown = administrator.post(steer, {"action": "cancel", "recipe": F32}, follow=True).content.decode()
    assert "expected a recipe asked for" in shown
    verbs = set(AuditEntry.objects.values_list("verb", flat=True))
    assert {"request_recipes", "prioritise_job", "cancel_job", "retry_job", "cancel_version"} <= verbs


def test_gates_block_a_variant_and_an_override_with_a_reason_lets_it_through(administrator, filled):  # noqa: F811
    model = filled.model
    gates = url(RegisteredModel, "gates", model.pk)
    form = {"max_bytes": "3", "max_latency_us": "everything-else 100\n", "required_recipes": [F32]}
    assert "microseconds, got" in administrator.post(gates, {"max_latency_us": "oops"}).content.decode()
    assert administrator.post(gates, form).status_code == 302
    model.refresh_from_db()
    assert model.gates == {"max_bytes": 3, "max_latency_us": {"everything-else": 100}, "required_recipes": [F32]}
    assert "everything-else 100" in administrator.get(url(RegisteredModel, "change", model.pk)).content.decode()
    factories.job(filled, F32, JobState.SUCCEEDED)
    page = administrator.get(url(ModelVersion, "change", filled.pk)).content.decode()
    assert "expected at most 3 bytes" in page
    second = factories.converted_version(model.application)
    publish = f"/admin/distribution/release/add/?version={second.pk}"
    assert "stays out, by the gates" in administrator.get(publish).content.decode()
    override = url(ModelVersion, "override", second.pk) + f"?variant={F32}"
    administrator.post(override, {"reason": ""})
    assert not GateOverride.objects.exists()
    assert administrator.post(override, {"reason": "for a demo"}).status_code == 302
    assert [miss["code"] for miss in GateOverride.objects.get().misses] == ["too_many_bytes", "latency_not_measured"]
    assert "stays out" not in administrator.get(publish).content.decode()
    assert "No gate blocks" in administrator.get(override).content.decode()


def test_profiles_a_rebuild_and_a_comparison(administrator, filled):  # noqa: F811
    profiles = url(RegisteredModel, "profiles", filled.model_id)
    for recipes in ([F32, F16], [F32]):
        form = {"name": "phones", "recipes": recipes, "is_default": "on"}
        assert administrator.post(profiles, form).status_code == 302
    assert filled.model.profiles.get().recipes == [F32]
    assert administrator.post(url(ModelVersion, "rebuild", filled.pk), {"notes": ""}).status_code == 302
    made = ModelVersion.objects.get(number=2)
    assert (made.rebuilt_from, made.registered_by) == (filled, "root")
    page = administrator.get(url(ModelVersion, "compare", made.pk)).content.decode()
    assert "against version 1" in page
    assert "No recipe was built in both" in page
    administrator.post(profiles, {"delete": "phones"})
    assert not filled.model.profiles.exists()


def test_a_comparison_names_what_only_one_version_has(administrator, filled):  # noqa: F811
    app = filled.model.application
    measured = Report(state="succeeded").to_json()
    older, newer = factories.version(app, "letters"), factories.version(app, "letters")
    for version, name in ((older, F32), (older, F16), (newer, F32)):
        factories.variant(version, name, **measured)
    page = administrator.get(url(ModelVersion, "compare", newer.pk)).content.decode()
    rows, after = page.split("</table>")
    assert F32 in rows
    assert F16 not in rows
    assert f'Only in version 1: <span class="ag-mono">{F16}</span>' in after
