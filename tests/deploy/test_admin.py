"""Every page of the admin opens, for an empty and for a filled database, and its verbs go through the services."""

import pytest
from django.contrib import admin
from django.urls import reverse

from distribution import services as distribution_services
from distribution.models import Release
from registry.models import AuditEntry, DeviceClass, JobState, PublishRequest
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
REGISTERED = sorted(admin.site._registry, key=lambda model: model.__name__)


@pytest.fixture
def administrator(client):
    client.force_login(factories.user("root", superuser=True))
    return client


@pytest.fixture
def filled():
    app = factories.application()
    version = factories.converted_version(app)
    factories.job(version, "trace", JobState.SUCCEEDED)
    channel = app.channels.get()
    distribution_services.publish(channel=channel, version=version, actor="ada", now=NOW)
    distribution_services.engage_kill_switch(channel=channel, model=version.model, actor="ada", now=NOW, reason="x")
    return version


def url(model, page, *arguments):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model.__name__)
def test_lists_open_when_there_is_nothing(administrator, model):
    assert administrator.get(url(model, "changelist")).status_code == 200


def test_every_list_and_every_row_opens(administrator, filled):
    assert administrator.get("/admin/").status_code == 200
    for model in REGISTERED:
        assert administrator.get(url(model, "changelist")).status_code == 200
        for row in model.objects.all()[:3]:
            assert administrator.get(url(model, "change", row.pk)).status_code == 200


def test_adding_a_release_publishes_and_a_refusal_is_shown(administrator, filled):
    second = factories.converted_version(filled.model.application)
    form = {"channel": filled.model.application.channels.get().pk, "model_version": second.pk, "reason": "better"}
    answer = administrator.post(url(Release, "add"), form, follow=True)
    assert answer.status_code == 200
    assert Release.objects.first().model_version == second
    assert AuditEntry.objects.first().verb == "publish"
    answer = administrator.post(url(Release, "add"), form, follow=True)
    assert "expected another version" in answer.content.decode()
    assert Release.objects.count() == 2


def test_rolling_back_from_the_list(administrator, filled):
    second = factories.converted_version(filled.model.application)
    channel = filled.model.application.channels.get()
    Release.objects.update(live_revision=1)
    newest = distribution_services.publish(channel=channel, version=second, actor="ada", now=NOW)
    form = {"action": "roll_back", "_selected_action": [newest.pk]}
    administrator.post(url(Release, "changelist"), form, follow=True)
    assert (Release.objects.first().model_version, Release.objects.first().is_rollback) == (filled, True)


def test_a_device_class_with_a_wrong_selector_is_refused_with_what_is_wrong(administrator, filled):
    row = DeviceClass.objects.first()
    form = {
        "application": row.application_id,
        "name": row.name,
        "position": row.position,
        "selector": '{"colour": "red"}',
        "variants": '["tflite-int3"]',
        "delegate_order": "[]",
    }
    page = administrator.post(url(DeviceClass, "change", row.pk), form).content.decode()
    assert "colour" in page
    assert "tflite-int3" in page
    before = PublishRequest.objects.count()
    form |= {"selector": '{"os": ["ios"]}', "variants": '["tflite-float32"]'}
    assert administrator.post(url(DeviceClass, "change", row.pk), form).status_code == 302
    assert PublishRequest.objects.count() == before + 1
