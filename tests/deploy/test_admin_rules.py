"""What a release manager does without the API: approvals, floors, pins, test devices, embedded models, patches."""

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from distribution import delivery_rules
from distribution.models import ChannelSettings, DeliveryRules, EmbeddedModel, Patch, Pin, Release, TestDevice
from registry.models import AuditEntry, Channel, PublishRequest, Role
from tests import factories
from tests.deploy.test_admin import administrator, filled, signed_in  # noqa: F401
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


def url(model, page, *arguments):
    return reverse(f"admin:distribution_{model._meta.model_name}_{page}", args=arguments)


def what(version):
    return f"?what={version.model.application.channels.get().pk}:{version.model.pk}"


class TestApprovals:
    FORM = {"approvals_required": 2, "lift_approvals_required": 0}

    def test_every_channel_has_its_line_and_is_changed(self, administrator, filled):  # noqa: F811
        Channel.objects.create(application=filled.model.application, slug="preview", created_at=NOW)
        page = administrator.get(url(ChannelSettings, "changelist")).content.decode()
        assert "preview" in page
        assert "one other person" in page
        row = ChannelSettings.objects.get(channel__slug="preview")
        form = {**self.FORM, "row_version": row.row_version}
        assert administrator.post(url(ChannelSettings, "change", row.pk), form).status_code == 302
        row.refresh_from_db()
        assert (row.approvals_required, row.lift_approvals_required) == (2, 0)
        assert AuditEntry.objects.first().verb == "change_channel_settings"

    def test_what_was_changed_meanwhile_is_not_overwritten(self, administrator, filled):  # noqa: F811
        row = ChannelSettings.objects.get()
        form = {**self.FORM, "row_version": row.row_version - 1}
        page = administrator.post(url(ChannelSettings, "change", row.pk), form).content.decode()
        assert "was changed since the page was opened" in page
        row.refresh_from_db()
        assert row.approvals_required == 0

    def test_only_administrators_change_them(self, client, filled):  # noqa: F811
        row = ChannelSettings.objects.get()
        signed_in(client, Role.RELEASER, filled.model.application)
        page = client.get(url(ChannelSettings, "change", row.pk)).content.decode()
        assert "disabled" in page
        assert ">Save<" not in page
        form = {**self.FORM, "row_version": row.row_version}
        assert client.post(url(ChannelSettings, "change", row.pk), form).status_code == 403


class TestFloors:
    def test_set_and_cleared(self, administrator, filled):  # noqa: F811
        row = DeliveryRules.objects.get()
        page = administrator.get(url(DeliveryRules, "add") + what(filled)).content.decode()
        assert re.search(r'value="1"[^>]*checked', page)
        before = PublishRequest.objects.count()
        answer = administrator.post(url(DeliveryRules, "change", row.pk), {"row_version": row.row_version})
        assert answer.status_code == 302
        row.refresh_from_db()
        assert row.floors == []
        form = {"floors": ["1"], "row_version": row.row_version}
        assert administrator.post(url(DeliveryRules, "add") + what(filled), form).status_code == 302
        row.refresh_from_db()
        assert (row.floors, PublishRequest.objects.count()) == ([1], before + 2)

    def test_a_version_that_was_never_live_is_not_offered(self, administrator, filled):  # noqa: F811
        factories.converted_version(filled.model.application)
        row = DeliveryRules.objects.get()
        page = administrator.get(url(DeliveryRules, "change", row.pk)).content.decode()
        assert "version 1" in page
        assert "version 2" not in page
        form = {"floors": ["2"], "row_version": row.row_version}
        assert (
            "not one of the available choices"
            in administrator.post(url(DeliveryRules, "change", row.pk), form).content.decode()
        )

    def test_a_viewer_looks(self, client, filled):  # noqa: F811
        row = DeliveryRules.objects.get()
        signed_in(client, Role.VIEWER, filled.model.application)
        assert "Save the floors" not in client.get(url(DeliveryRules, "change", row.pk)).content.decode()
        form = {"row_version": row.row_version}
        assert client.post(url(DeliveryRules, "change", row.pk), form).status_code == 403


class TestPins:
    def test_a_unit_and_a_device(self, administrator, filled):  # noqa: F811
        Pin.objects.all().delete()
        address = url(Pin, "add") + what(filled)
        device = TestDevice.objects.get()
        assert administrator.post(address, {"version": filled.pk, "test_device": device.pk}).status_code == 302
        form = {"version": filled.pk, "unit": "a-unit", "label": "Grace"}
        assert administrator.post(address, form).status_code == 302
        assert [(pin.label, pin.unit_key) for pin in Pin.objects.all()] == [
            ("Grace", delivery_rules.unit_key(filled.model.application, "a-unit")),
            ("Ada's phone", device.unit_key),
        ]
        assert "expected a unit without a pin" in administrator.post(address, form).content.decode()

    @pytest.mark.parametrize(
        ("form", "told"),
        [
            ({}, "got both or neither"),
            ({"unit": "/"}, "1 to 128 characters"),
            ({"unit": "x", "version": ""}, "required"),
        ],
    )
    def test_what_is_wrong_is_told_beside_its_field(self, administrator, filled, form, told):  # noqa: F811
        page = administrator.post(url(Pin, "add") + what(filled), {"version": filled.pk, **form}).content.decode()
        assert told in page.split('name="unit"')[-1] or told in page.split('name="version"')[-1]

    def test_removed_by_the_service(self, administrator, filled):  # noqa: F811
        pin = Pin.objects.get()
        assert administrator.post(url(Pin, "delete", pin.pk), {"post": "yes"}).status_code == 302
        assert not Pin.objects.exists()
        assert AuditEntry.objects.first().verb == "unpin"

    def test_only_versions_that_were_released_are_offered(self, administrator, filled):  # noqa: F811
        factories.converted_version(filled.model.application)
        page = administrator.get(url(Pin, "add") + what(filled)).content.decode()
        assert "digits:1" in page
        assert "digits:2" not in page


class TestTestDevices:
    def test_an_invitation_is_shown_once_as_a_picture_and_enrols(self, administrator, filled):  # noqa: F811
        channel = Channel.objects.get()
        answer = administrator.post(url(TestDevice, "add"), {"channel": channel.pk, "name": "Grace's tablet"})
        page = answer.content.decode()
        assert answer.status_code == 200
        assert "no-store" in answer["Cache-Control"]
        assert "<svg" in page
        token = re.search(r"/api/v1/enrolments#(enrol_[\w-]+)", page).group(1)
        listed = administrator.get(url(TestDevice, "changelist")).content.decode()
        assert token not in listed
        row = delivery_rules.enrol(token=token, unit="tablet", now=TestDevice.objects.first().invited_at)
        assert (row.name, row.channel) == ("Grace's tablet", channel)

    def test_a_name_in_use(self, administrator, filled):  # noqa: F811
        form = {"channel": Channel.objects.get().pk, "name": "Ada's phone"}
        assert "which exists" in administrator.post(url(TestDevice, "add"), form).content.decode()

    def test_forgotten_with_its_pins(self, administrator, filled):  # noqa: F811
        administrator.post(url(TestDevice, "delete", TestDevice.objects.get().pk), {"post": "yes"})
        assert not TestDevice.objects.exists()
        assert not Pin.objects.exists()

    def test_somebody_elses_channel(self, client, filled):  # noqa: F811
        other = factories.application("other")
        signed_in(client, Role.RELEASER, filled.model.application)
        form = {"channel": other.channels.get().pk, "name": "spy"}
        assert client.post(url(TestDevice, "add"), form).status_code == 200
        assert not TestDevice.objects.filter(name="spy").exists()


class TestEmbeddedModels:
    def test_a_file_of_a_variant_by_its_digest(self, administrator, filled):  # noqa: F811
        sha256 = filled.variants.first().files.filter(role="model").get().artifact.sha256
        form = {"model": filled.model.pk, "sha256": sha256}
        assert administrator.post(url(EmbeddedModel, "add"), form).status_code == 302
        row = EmbeddedModel.objects.first()
        assert (row.artifact.sha256, row.file_name) == (sha256, "model.tflite")
        assert AuditEntry.objects.filter(verb="register_embedded_model").exists()

    def test_a_file_from_elsewhere(self, administrator, filled):  # noqa: F811
        file = SimpleUploadedFile("old.tflite", b"bytes of an app of last year")
        assert (
            administrator.post(url(EmbeddedModel, "add"), {"model": filled.model.pk, "file": file}).status_code == 302
        )
        row = EmbeddedModel.objects.first()
        assert (row.file_name, row.artifact.size_bytes) == ("old.tflite", 28)

    @pytest.mark.parametrize(("form", "told"), [({}, "got both or neither"), ({"sha256": "0" * 64}, "upload the file")])
    def test_what_is_wrong_is_told(self, administrator, filled, form, told):  # noqa: F811
        page = administrator.post(url(EmbeddedModel, "add"), {"model": filled.model.pk, **form}).content.decode()
        assert told in page


class TestPatches:
    def test_the_list_says_from_where_to_where(self, administrator, filled):  # noqa: F811
        page = administrator.get(url(Patch, "changelist")).content.decode()
        assert "digits: model.tflite in the app" in page
        assert "% of the file" in page
        assert "offered" in page

    def test_a_versions_page_lists_its_own(self, administrator, filled):  # noqa: F811
        page = administrator.get(reverse("admin:registry_modelversion_change", args=[filled.pk])).content.decode()
        assert "Patches to this version" in page
        assert "digits: model.tflite in the app" in page
        Patch.objects.all().delete()
        page = administrator.get(reverse("admin:registry_modelversion_change", args=[filled.pk])).content.decode()
        assert "nothing was published before it" in page
        Release.objects.all().update(model_version=factories.converted_version(filled.model.application))
        page = administrator.get(reverse("admin:registry_modelversion_change", args=[filled.pk])).content.decode()
        assert "Patches to this version" not in page
