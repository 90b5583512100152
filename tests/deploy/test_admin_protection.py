"""The admin's pages of protection: seen by viewers, changed by administrators, through the service."""

import pytest
from django.urls import reverse

from distribution import services as releasing
from distribution.models import ContentKey, KeyCall, ModelProtection
from distribution.protection import services
from distribution.protection.encrypting import encrypt_pending
from registry.models import AuditEntry, Role
from tests import factories
from tests.deploy.test_admin import signed_in
from tests.distribution.protection.conftest import kek  # noqa: F401 - a fixture
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store", "kek")]
LIST = "admin:distribution_modelprotection_changelist"


@pytest.fixture
def row():
    return services.protection_of(factories.converted_version(factories.application()).model)


def page_of(row):
    return reverse("admin:distribution_modelprotection_change", args=[row.pk])


def test_an_administrator_switches_it_on(client, row):
    signed_in(client, Role.ADMINISTRATOR, row.model.application)
    form = {"is_on": "on", "reason": "ours", "row_version": row.row_version}
    answer = client.post(page_of(row), form, follow=True)
    assert "from now on are encrypted" in answer.content.decode()
    assert ModelProtection.objects.get().is_on
    assert AuditEntry.objects.get(verb="set_protection").reason == "ours"


def test_a_viewer_looks_and_does_not_touch(client, row):
    signed_in(client, Role.RELEASER, row.model.application)
    page = client.get(page_of(row)).content.decode()
    assert "Save" not in page
    assert client.post(page_of(row), {"is_on": "on", "row_version": row.row_version}).status_code == 403
    assert not ModelProtection.objects.get().is_on


def test_a_page_that_is_out_of_date_changes_nothing(client, row):
    signed_in(client, Role.ADMINISTRATOR, row.model.application)
    form = {"is_on": "on", "row_version": row.row_version}
    client.post(page_of(row), form)
    answer = client.post(page_of(row), {"row_version": row.row_version})
    assert "it was changed since" in answer.content.decode()
    assert ModelProtection.objects.get().is_on


def test_the_list_names_every_model_and_what_is_asked(client, row):
    ModelProtection.objects.all().delete()
    signed_in(client, Role.VIEWER, row.model.application)
    page = client.get(reverse(LIST)).content.decode()
    assert "not set up: nobody is given a key" in page
    services.attestation_of(row.model.application)
    row.model.application.attestation.__class__.objects.update(apple_app_id="ABCDE12345.com.example.app")
    assert "App Attest" in client.get(reverse(LIST)).content.decode()


def test_keys_and_calls_are_shown_without_keys_and_units(client, row):
    services.set_protection(protection=row, is_on=True, actor="ada", now=NOW)
    application = row.model.application
    version = row.model.versions.get()
    releasing.publish(channel=application.channels.get(), version=version, actor="ada", now=NOW)
    encrypt_pending(application=application, now=NOW)
    key = ContentKey.objects.get()
    KeyCall.objects.create(
        application=application,
        content_key=key,
        channel="production",
        unit_key="ab" * 32,
        outcome="released",
        challenge_sha256="0" * 64,
        at=NOW,
    )
    signed_in(client, Role.VIEWER, application)
    page = client.get(page_of(row)).content.decode()
    assert key.key_id in page
    assert "digits:1 tflite-float32" in page
    calls = client.get(reverse("admin:distribution_keycall_changelist")).content.decode()
    assert "abababababab…" in calls
    assert "ab" * 32 not in calls
