"""Every page of the admin opens; each role does its verbs and no other; writes go through the services."""

import json
import re

import numpy as np
import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone

from distribution import approvals, delivery_rules, preview
from distribution import services as distribution_services
from distribution.models import (
    ChannelSettings,
    DeliveryRules,
    EmbeddedModel,
    KillSwitch,
    Patch,
    Pin,
    Release,
    ReleaseRequest,
    TestDevice,
)
from distribution.protection.services import protection_of
from experiments import lifecycle
from experiments import services as experiment_services
from experiments.admin.verbs import PAGES
from experiments.models import Experiment, Holdback, Layer
from registry import services
from registry.conversion.recipes import RECIPES
from registry.models import (
    Application,
    AuditEntry,
    Channel,
    DeviceClass,
    JobState,
    Membership,
    ModelVersion,
    PublishRequest,
    Role,
    Upload,
    Webhook,
    WebhookDelivery,
)
from registry.services import grant, webhooks
from registry.services.models import create_model
from tests import factories
from tests.deploy.test_cli_device_classes import EVERY_CONDITION
from tests.factories import NOW
from tests.sdk.tiny_tflite import float_model

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
REGISTERED = sorted(admin.site._registry, key=lambda model: model.__name__)
JSON = {"HTTP_ACCEPT": "application/json"}


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
    Release.objects.update(live_revision=1, state=Release.State.LIVE)
    told = {"channel": channel, "model": version.model, "actor": "ada", "now": NOW, "reason": "x"}
    distribution_services.engage_kill_switch(**told)
    approvals.cancel(request=approvals.request_lift(**told), actor="ada", now=NOW)
    with_rules(version)
    with_webhook(app)
    with_experiment(version)
    return version


def with_experiment(version):
    """The same version twice: a draft that needs no second version."""
    arms = [{"name": "one", "version": version.number, "control": True}, {"name": "other", "version": version.number}]
    told = {"channel": version.model.application.channels.get(), "model": version.model, "actor": "ada", "now": NOW}
    experiment_services.create(slug="same", kind="aa", arms=arms, **told)
    experiment_services.set_holdback(version=version.number, reason="x", **told)


def with_webhook(app):
    row, _ = webhooks.create_webhook(
        application=app, name="ops", url="https://hooks.example.com/", event_types=[], actor="ada", now=NOW
    )
    webhooks.send_test(webhook=row, actor="ada", now=NOW)


def with_rules(version):
    """A row of each kind that a channel's own rules and patches are of."""
    app, told = version.model.application, {"actor": "ada", "now": NOW}
    channel = app.channels.get()
    distribution_services.settings_of(channel)
    rules = DeliveryRules.objects.create(channel=channel, model=version.model)
    delivery_rules.set_floors(rules=rules, floors=[version.number], **told)
    _, token = delivery_rules.invite_test_device(channel=channel, name="Ada's phone", **told)
    device = delivery_rules.enrol(token=token, unit="c0ffee00-0000-4000-8000-000000000001", now=NOW)
    delivery_rules.pin(channel=channel, version=version, key=device.unit_key, label=device.name, **told)
    file = version.variants.first().files.filter(role="model").get()
    embedded = factories.artifact(b"as the app ships it")
    EmbeddedModel.objects.create(
        application=app,
        model=version.model,
        artifact=embedded,
        file_name="model.tflite",
        registered_by="ada",
        registered_at=NOW,
    )
    Patch.objects.create(
        application=app,
        target=file.artifact,
        base=embedded,
        algorithm="weightdiff-1",
        state=Patch.State.OFFERED,
        length=10,
        sha256="0" * 64,
        requested_at=NOW,
        made_at=NOW,
    )


def signed_in(client, role=None, app=None, name="somebody"):
    """A member of the staff with a role in the application, or with none."""
    user = factories.user(name)
    user.is_staff = True
    user.save()
    if role is not None:
        grant(application=app, user=user, role=role, actor="tests", now=NOW)
    client.force_login(user)
    return client


def url(model, page, *arguments):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model.__name__)
def test_lists_open_when_there_is_nothing(administrator, model):
    assert administrator.get(url(model, "changelist")).status_code == 200


def test_somebody_who_was_added_signs_in_and_is_told_who_grants_roles(administrator):
    told = {"username": "grace", "password1": "a word of 4 words", "password2": "a word of 4 words"}
    administrator.post(reverse("admin:auth_user_add"), told | {"usable_password": "true"})
    grace = Client()
    signed_in = grace.post(reverse("admin:login"), {"username": "grace", "password": told["password1"]}, follow=True)
    assert signed_in.request["PATH_INFO"] == "/admin/"
    assert "You have no role yet" in signed_in.content.decode()


def test_every_list_and_every_row_opens(administrator, filled):
    assert administrator.get("/admin/").status_code == 200
    for model in REGISTERED:
        assert administrator.get(url(model, "changelist")).status_code == 200
        for row in model.objects.all()[:3]:
            assert administrator.get(url(model, "change", row.pk)).status_code == 200, (model, row.pk)


# -- roles: each address of the admin, and the least role that may use it. None: any member of the staff.

SUPERUSER = 100
SAID_BY = {verb: lifecycle.ROLES[verb] for verb in PAGES}
MINIMUM = {
    "index": None,
    "home_state": None,
    "registry_registeredmodel_changelist": Role.VIEWER,
    "registry_registeredmodel_add": Role.EDITOR,
    "registry_registeredmodel_change": Role.VIEWER,
    "registry_modelversion_changelist": Role.VIEWER,
    "registry_modelversion_add": Role.EDITOR,
    "registry_modelversion_receive": Role.EDITOR,
    "registry_modelversion_register": Role.EDITOR,
    "registry_modelversion_change": Role.VIEWER,
    "registry_modelversion_work": Role.VIEWER,
    "registry_modelversion_yank": Role.RELEASER,
    "registry_modelversion_progress": Role.VIEWER,
    "registry_modelversion_steer": Role.EDITOR,
    "registry_modelversion_recipes": Role.EDITOR,
    "registry_modelversion_rebuild": Role.EDITOR,
    "registry_modelversion_override": Role.RELEASER,
    "registry_modelversion_compare": Role.VIEWER,
    "registry_registeredmodel_gates": Role.RELEASER,
    "registry_registeredmodel_profiles": Role.EDITOR,
    "registry_deviceclass_changelist": Role.VIEWER,
    "registry_deviceclass_match": Role.VIEWER,
    "registry_deviceclass_add": Role.ADMINISTRATOR,
    "registry_deviceclass_change": Role.VIEWER,
    "registry_deviceclass_delete": Role.ADMINISTRATOR,
    "registry_channel_changelist": Role.VIEWER,
    "registry_channel_add": Role.ADMINISTRATOR,
    "registry_channel_change": Role.VIEWER,
    "registry_application_changelist": Role.VIEWER,
    "registry_application_add": SUPERUSER,
    "registry_application_change": Role.VIEWER,
    "registry_auditentry_changelist": Role.VIEWER,
    "registry_auditentry_change": Role.VIEWER,
    "registry_apitoken_changelist": None,
    "registry_apitoken_add": None,
    "registry_webhook_changelist": Role.ADMINISTRATOR,
    "registry_webhook_add": Role.ADMINISTRATOR,
    "registry_webhook_change": Role.ADMINISTRATOR,
    "registry_webhook_edit": Role.ADMINISTRATOR,
    "registry_webhook_rotate": Role.ADMINISTRATOR,
    "registry_webhook_disable": Role.ADMINISTRATOR,
    "registry_webhook_deliveries": Role.ADMINISTRATOR,
    "registry_webhook_delete": Role.ADMINISTRATOR,
    "registry_webhookdelivery_changelist": Role.ADMINISTRATOR,
    "registry_webhookdelivery_change": Role.ADMINISTRATOR,
    "distribution_release_changelist": Role.VIEWER,
    "distribution_release_add": Role.RELEASER,
    "distribution_release_roll_back": Role.RELEASER,
    "distribution_release_explain": Role.VIEWER,
    "distribution_release_change": Role.VIEWER,
    "distribution_release_way": Role.VIEWER,
    "distribution_releaserequest_changelist": Role.VIEWER,
    "distribution_releaserequest_change": Role.VIEWER,
    "distribution_killswitch_changelist": Role.VIEWER,
    "distribution_killswitch_add": Role.RELEASER,
    "distribution_killswitch_change": Role.VIEWER,
    "distribution_killswitch_lift": Role.RELEASER,
    "distribution_channelsettings_changelist": Role.VIEWER,
    "distribution_channelsettings_change": Role.VIEWER,
    "distribution_deliveryrules_changelist": Role.VIEWER,
    "distribution_deliveryrules_add": Role.RELEASER,
    "distribution_deliveryrules_change": Role.VIEWER,
    "distribution_pin_changelist": Role.VIEWER,
    "distribution_pin_add": Role.RELEASER,
    "distribution_pin_change": Role.VIEWER,
    "distribution_pin_delete": Role.RELEASER,
    "distribution_testdevice_changelist": Role.VIEWER,
    "distribution_testdevice_add": Role.RELEASER,
    "distribution_testdevice_change": Role.VIEWER,
    "distribution_testdevice_delete": Role.RELEASER,
    "distribution_embeddedmodel_changelist": Role.VIEWER,
    "distribution_embeddedmodel_add": Role.EDITOR,
    "distribution_embeddedmodel_change": Role.VIEWER,
    "distribution_patch_changelist": Role.VIEWER,
    "distribution_patch_change": Role.VIEWER,
    "distribution_revision_changelist": Role.VIEWER,
    "distribution_signeddocument_changelist": Role.VIEWER,
    "distribution_trustrole_changelist": Role.VIEWER,
    "distribution_modelprotection_changelist": Role.VIEWER,
    "distribution_modelprotection_change": Role.VIEWER,
    "distribution_keycall_changelist": Role.VIEWER,
    "experiments_experiment_changelist": Role.VIEWER,
    "experiments_experiment_change": Role.VIEWER,
    "experiments_experiment_standing": Role.VIEWER,
    "experiments_experiment_add": Role.EDITOR,
    "experiments_experiment_edit": Role.EDITOR,
    "experiments_experiment_overrides": Role.VIEWER,
    "experiments_experiment_unit": Role.VIEWER,
    "experiments_layer_changelist": Role.VIEWER,
    "experiments_layer_change": Role.VIEWER,
    "experiments_holdback_changelist": Role.VIEWER,
    "experiments_holdback_add": Role.RELEASER,
    "experiments_holdback_change": Role.VIEWER,
    "experiments_holdback_lift": Role.RELEASER,
    **{f"experiments_experiment_{verb.replace('_', '-')}": Role[least.upper()] for verb, least in SAID_BY.items()},
    "auth_user_changelist": SUPERUSER,
    "auth_user_add": SUPERUSER,
    "auth_group_changelist": SUPERUSER,
    "auth_group_add": SUPERUSER,
}
# Rows of these are of another kind, or never deleted, or Django's own pages beside the admin's.
NOT_OURS = {
    "autocomplete", "jsi18n", "login", "logout", "password_change", "password_change_done", "search", "view_on_site",
    "app_list", "auth_user_password_change",
}  # fmt: skip
NOBODY = {  # addresses that Django makes for every model; nobody but a superuser may use these
    f"{name}_{page}"
    for name, pages in {
        "registry_registeredmodel": ("delete",),
        "registry_modelversion": ("delete",),
        "registry_channel": ("delete",),
        "registry_application": ("delete",),
        "registry_auditentry": ("add", "delete"),
        "registry_webhookdelivery": ("add", "delete"),
        "distribution_release": ("delete",),
        "distribution_killswitch": ("delete",),
        "distribution_releaserequest": ("add", "delete"),
        "distribution_channelsettings": ("add", "delete"),
        "distribution_deliveryrules": ("delete",),
        "distribution_embeddedmodel": ("delete",),
        "distribution_patch": ("add", "delete"),
        "distribution_revision": ("add", "delete"),
        "distribution_signeddocument": ("add", "delete"),
        "distribution_trustrole": ("add",),
        "distribution_modelprotection": ("add", "delete"),
        "distribution_keycall": ("add",),
        "experiments_experiment": ("delete",),
        "experiments_layer": ("add", "delete"),
        "experiments_holdback": ("delete",),
        "auth_user": ("change", "delete"),
        "auth_group": ("change", "delete"),
    }.items()
    for page in pages
}
UNREACHED = {  # no row without a signer, or a row of one's own: tests/registry/test_token_pages.py
    "registry_apitoken_change",
    "registry_apitoken_delete",
    "distribution_revision_change",
    "distribution_signeddocument_change",
    "distribution_trustrole_change",
    "distribution_keycall_change",
    "distribution_keycall_delete",
    "distribution_trustrole_delete",
}


def named_addresses(patterns=None):
    for pattern in patterns or get_resolver("deploy.urls").namespace_dict["admin"][1].url_patterns:
        if isinstance(pattern, URLPattern):
            if pattern.name and not pattern.name.endswith("_history"):
                yield pattern.name
        else:
            yield from named_addresses(pattern.url_patterns)


def test_every_address_of_the_admin_has_a_line_in_the_table():
    missing = set(named_addresses()) - set(MINIMUM) - NOT_OURS - NOBODY - UNREACHED
    assert not missing, f"add these to MINIMUM: {sorted(missing)}"
    assert not (set(MINIMUM) | NOBODY | UNREACHED) - set(named_addresses())


ROW_PAGES = {"change", "delete", "work", "yank", "way", "lift", "steer", "recipes", "rebuild", "override", "compare"}
ROW_PAGES |= {"gates", "profiles", "progress", "standing", "overrides", "unit"}
ROW_PAGES |= {verb.replace("_", "-") for verb in SAID_BY}
ROW_PAGES |= {"edit", "rotate", "disable", "deliveries"}


def status_of(client, name, version):
    rows = {
        "registry_registeredmodel": version.model,
        "registry_modelversion": version,
        "registry_deviceclass": DeviceClass.objects.first(),
        "registry_channel": Channel.objects.first(),
        "registry_application": version.model.application,
        "registry_auditentry": AuditEntry.objects.filter(application=version.model.application.slug).first(),
        "registry_webhook": Webhook.objects.first(),
        "registry_webhookdelivery": WebhookDelivery.objects.first(),
        "distribution_release": Release.objects.first(),
        "distribution_killswitch": KillSwitch.objects.first(),
        "distribution_releaserequest": ReleaseRequest.objects.first(),
        "distribution_modelprotection": protection_of(version.model),
        "distribution_channelsettings": ChannelSettings.objects.first(),
        "distribution_deliveryrules": DeliveryRules.objects.first(),
        "distribution_pin": Pin.objects.first(),
        "distribution_testdevice": TestDevice.objects.first(),
        "distribution_embeddedmodel": EmbeddedModel.objects.first(),
        "distribution_patch": Patch.objects.first(),
        "experiments_experiment": Experiment.objects.first(),
        "experiments_layer": Layer.objects.first(),
        "experiments_holdback": Holdback.objects.first(),
    }
    kind, _, page = name.rpartition("_")
    row = rows.get(kind)
    needs_row = page in ROW_PAGES and row is not None
    address = reverse(f"admin:{name}", args=[row.pk] if needs_row else [])
    if page == "receive":
        query = f"?application={version.model.application}&file_name=model.tflite"
        return client.post(address + query, b"nonsense", content_type="application/octet-stream", **JSON).status_code
    if page == "register":
        form = {"application": version.model.application.slug, "model": "digits", "source": 0}
        return client.post(address, json.dumps(form), content_type="application/json", **JSON).status_code
    return client.get(address).status_code


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: getattr(role, "label", "none"))
def test_each_role_opens_its_pages_and_gets_a_designed_403_on_the_others(client, filled, role):
    signed_in(client, role, filled.model.application)
    wrong = {}
    for name, least in MINIMUM.items():
        is_allowed = least is None or (role is not None and role >= least)
        status = status_of(client, name, filled)
        if (status == 403) is is_allowed or status >= 500:
            wrong[name] = (status, least)
    assert not wrong
    for name in NOBODY - {f"auth_{kind}_{page}" for kind in ("user", "group") for page in ("change", "delete")}:
        if not name.startswith(("distribution_revision_d", "distribution_signeddocument_d")):
            assert status_of(client, name, filled) == 403, name


def test_a_refusal_says_what_is_missing_and_whom_to_ask(client, filled):
    app = filled.model.application
    grant(application=app, user=factories.user("grace"), role=Role.ADMINISTRATOR, actor="tests", now=NOW)
    answer = signed_in(client, Role.VIEWER, app).get(url(ModelVersion, "yank", filled.pk))
    page = answer.content.decode()
    assert answer.status_code == 403
    assert "expected the role releaser in demo, got viewer" in page
    assert "grace" in page


def test_members_see_only_their_applications(client, filled):
    other = factories.application("other")
    hidden = factories.converted_version(other, "secret-model")
    signed_in(client, Role.ADMINISTRATOR, filled.model.application)
    for model in REGISTERED:
        assert "secret-model" not in client.get(url(model, "changelist")).content.decode()
    assert "secret-model" not in client.get("/admin/").content.decode()
    for page in ("change", "work", "yank"):
        assert client.get(url(ModelVersion, page, hidden.pk)).status_code == 403
    assert client.get(url(Release, "add") + f"?version={hidden.pk}").status_code == 403
    form = {"application": other.pk, "slug": "beta"}
    client.post(url(Channel, "add"), form)
    assert not other.channels.filter(slug="beta").exists()


def test_staff_without_a_role_is_told_so(client, filled):
    assert "You have no role yet" in signed_in(client).get("/admin/").content.decode()


def test_an_unknown_row_is_told_as_a_page(administrator, filled):
    answer = administrator.get(url(ModelVersion, "change", 999))
    assert (answer.status_code, "There is nothing here" in answer.content.decode()) == (404, True)


# -- uploading


def received(client, content, file_name, role="source", app="demo"):
    address = f"{url(ModelVersion, 'receive')}?application={app}&file_name={file_name}&role={role}"
    return client.post(address, content, content_type="application/octet-stream", **JSON)


def test_a_model_is_received_inspected_and_registered(client):
    app = factories.application()
    signed_in(client, Role.EDITOR, app)
    source = received(client, float_model(np.ones((3, 4), np.float32)), "tiny.tflite").json()
    assert source["found"][0] == "tflite"
    evaluation_set = received(client, factories.evaluation_set(), "held-out.npz", "evaluation_set").json()
    assert "image: 8 × 32 × 32 × 1 float32" in evaluation_set["found"]
    training_set = received(client, factories.evaluation_set(9), "training.npz", "training_set").json()
    model = create_model(application=app, slug="tiny", name="", actor="ada", now=NOW)
    services.create_profile(
        model=model, name="small", recipes=["tflite-weight-int8"], is_default=False, actor="ada", now=NOW
    )
    assert '"tiny": [{"name": "small"' in client.get(url(ModelVersion, "add")).content.decode()
    form = {
        "application": "demo",
        "model": "tiny",
        "source": source["id"],
        "source_signature": "serve",
        "evaluation_set": evaluation_set["id"],
        "training_set": training_set["id"],
        "labels": "a\n\nb\n",
        "metadata": {"author": "Ada"},
        "notes": "first",
        "profile": "small",
    }
    answer = client.post(url(ModelVersion, "register"), json.dumps(form), content_type="application/json", **JSON)
    version = ModelVersion.objects.get()
    assert answer.json()["location"] == url(ModelVersion, "change", version.pk)
    assert (version.labels, version.registered_by) == (["a", "b"], "somebody")
    assert (version.metadata, version.source_signature, version.profile) == ({"author": "Ada"}, "serve", "small")
    assert version.training_set.sha256 == training_set["sha256"] != version.evaluation_set.sha256
    assert [job.recipe for job in version.jobs.order_by("pk")] == ["trace", "tflite-weight-int8"]
    page = client.get(url(ModelVersion, "change", version.pk)).content.decode()
    for told in ("<dt>Training set", "author Ada", "<dt>Profile", "<dt>Signature"):
        assert told in page
    assert AuditEntry.objects.first().actor == "somebody"


@pytest.mark.parametrize(
    ("content", "file_name", "told"),
    [
        (b"", "model.keras", "0 bytes"),
        (b"nonsense", "model.keras", "model.keras: expected"),
        (b"nonsense", "../model.keras", "plain file name"),
        (b"PK\x03\x04", "model.tflite", "model.tflite: expected"),
    ],
)
def test_a_wrong_file_is_refused_in_words(administrator, content, file_name, told):
    factories.application()
    answer = received(administrator, content, file_name)
    assert answer.status_code == 400
    assert told in answer.json()["detail"]


def test_a_wrong_name_is_told_beside_its_field(administrator):
    app = factories.application()
    upload = Upload.objects.create(
        application=app, artifact=factories.artifact(b"x"), file_name="model.keras", uploaded_at=NOW
    )
    form = {"application": "demo", "model": "Not A Slug", "source": upload.pk}
    answer = administrator.post(
        url(ModelVersion, "register"), json.dumps(form), content_type="application/json", **JSON
    )
    assert (answer.status_code, answer.json()["field"]) == (400, "model")


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("metadata", [1], "expected an object as metadata, got list"),
        ("metadata", {"colour": "red"}, "colour"),
        ("profile", "small", "'small'"),
        ("training_set", 999, "expected an uploaded file, got 999"),
    ],
)
def test_what_is_wrong_in_the_form_is_told_beside_its_field(administrator, member, value, told):
    factories.application()
    source = received(administrator, float_model(np.ones((3, 4), np.float32)), "tiny.tflite").json()
    form = {"application": "demo", "model": "tiny", "source": source["id"], member: value}
    answer = administrator.post(
        url(ModelVersion, "register"), json.dumps(form), content_type="application/json", **JSON
    )
    assert (answer.status_code, answer.json()["field"]) == (400, member)
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    ("metric", "values", "shown"),
    [
        ("accuracy", (0.97, 0.99), ("97.00 %", "−2.00 pp to source", "97.00 % right")),
        ("mse", (0.0412, 0.0309), ("0.0412", "+0.01 to source", "0.0412 mse")),
    ],
)
def test_an_error_is_not_shown_as_a_percentage_and_less_of_it_is_better(administrator, metric, values, shown):
    version = factories.version(factories.application())
    for name, value in zip(("tflite-float16", "tflite-float32"), values, strict=True):
        accuracy = {"metric": metric, "value": value, "source_value": values[1], "samples": 8}
        interval = {"interval_low": value * 0.99, "interval_high": value * 1.001}
        factories.variant(version, name, accuracy={**accuracy, **interval})
    page = administrator.get(url(ModelVersion, "change", version.pk)).content.decode()
    for told in shown:
        assert told in page
    heights = dict(re.findall(r'cy="([\d.]+)" r="5.5"[^>]*><title>([\w-]+)', page.split("ag-narrow")[0]))
    by_name = {name: float(height) for height, name in heights.items()}
    assert by_name["tflite-float16"] > by_name["tflite-float32"], "the better one lies higher"


# -- publishing, going back, stopping


def test_publishing_shows_what_each_class_gets_and_then_releases(administrator, filled):
    second = factories.converted_version(filled.model.application, names=("tflite-float32", "tflite-float16"))
    address = url(Release, "add") + f"?version={second.pk}"
    page = administrator.get(address).content.decode()
    assert "tflite-float16" in page
    assert "Publish digits:2 to demo/production" in page
    answer = administrator.post(address, {"reason": "better"})
    made = Release.objects.first()
    assert answer["Location"] == url(Release, "change", made.pk)
    assert (made.model_version, made.reason, made.released_by) == (second, "better", "root")
    assert AuditEntry.objects.first().verb == "publish"
    assert "has digits:2 already" in administrator.get(address).content.decode()
    assert "expected another version" in administrator.post(address, {}).content.decode()
    assert Release.objects.count() == 2


def test_the_preview_says_what_changes_and_what_is_lost(filled):
    app = filled.model.application
    other = factories.converted_version(app, names=("coreml-fp16",))
    offers = {
        (offer.device_class.name, offer.runtime): offer for offer in preview.offers(app.channels.get(), filled, other)
    }
    assert offers["ios-coreml", "coreml"].before is None
    assert offers["ios-coreml", "coreml"].after.name == "coreml-fp16"
    assert offers["everything-else", "litert"].before.name == "tflite-float32"
    assert offers["everything-else", "litert"].is_lost
    same = preview.offers(app.channels.get(), filled, filled)
    assert {offer.download_bytes for offer in same} == {0}


def test_rolling_back_needs_a_reason_and_goes_to_the_version_shown(administrator, filled):
    second = factories.converted_version(filled.model.application)
    channel = filled.model.application.channels.get()
    distribution_services.publish(channel=channel, version=second, actor="ada", now=NOW)
    address = reverse("admin:distribution_release_roll_back") + f"?what={channel.pk}:{filled.model_id}"
    assert "Roll back to digits:1" in administrator.get(address).content.decode()
    administrator.post(address, {"reason": ""})
    assert Release.objects.count() == 2
    administrator.post(address, {"reason": "crashes"})
    made = Release.objects.first()
    assert (made.model_version, made.is_rollback, made.reason) == (filled, True, "crashes")


def test_a_kill_switch_is_lifted_and_engaged_again_with_reasons(administrator, filled):
    switch = KillSwitch.objects.get()
    administrator.post(url(KillSwitch, "lift", switch.pk), {"reason": ""})
    switch.refresh_from_db()
    assert switch.lifted_at is None
    administrator.post(url(KillSwitch, "lift", switch.pk), {"reason": "mended"})
    asked = ReleaseRequest.objects.get(state=ReleaseRequest.State.WAITING)
    page = url(ReleaseRequest, "change", asked.pk)
    shown = administrator.get(page).content.decode()
    assert "Somebody else must approve" in shown
    assert "waiting for approval" in shown
    administrator.post(page, {"do": "approve", "row_version": asked.row_version})
    other = Client()
    other.force_login(factories.user("second", superuser=True))
    other.post(page, {"do": "approve", "row_version": 99})
    switch.refresh_from_db()
    assert switch.lifted_at is None
    other.post(page, {"do": "approve", "row_version": asked.row_version})
    switch.refresh_from_db()
    assert switch.lifted_by == "root"
    address = url(KillSwitch, "add") + f"?what={switch.channel_id}:{switch.model_id}"
    administrator.post(address, {"reason": "again"})
    assert [entry.reason for entry in AuditEntry.objects.filter(verb__endswith="kill_switch")] == [
        "again",
        "mended",
        "x",
    ]
    assert "is engaged" in administrator.post(address, {"reason": "twice"}).content.decode()


def test_yanking_a_version(administrator, filled):
    administrator.post(url(ModelVersion, "yank", filled.pk), {"reason": "wrong labels"})
    filled.refresh_from_db()
    assert filled.yank_reason == "wrong labels"


# -- device classes, applications, the log


def device_class_form(row, **changes):
    return {
        "application": row.application_id,
        "name": row.name,
        "position": row.position,
        "variants": "\n".join(row.variants),
        "delegate_order": "\n".join(row.delegate_order),
        **{name: entered(name, value) for name, value in {**row.selector, **changes}.items()},
    }


def entered(name, value):
    """As a person writes a list into its field."""
    lines = name in ("soc", "device_include", "device_exclude", "variants")
    return ("\n" if lines else ", ").join(value) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"os_version_min": "fourteen"}, "dotted version"),
        ({"os_version_min": "14", "os_version_max": "13"}, "os_version from 14 to 13"),
        ({"ram_mb_min": 8000, "ram_mb_max": 4000}, "ram_mb from 8000 to 4000"),
        ({"device_include": ["a/b"], "device_exclude": ["a/b"]}, "each of a/b excluded"),
        ({"variants": ["tflite-int3"]}, "tflite-int3"),
        ({"variants": ""}, "required"),
        ({"position": 1}, "where android-high stands"),
        ({"name": "android-high"}, "which exists"),
    ],
)
def test_a_wrong_device_class_is_refused_with_what_is_wrong(administrator, filled, changes, told):
    row = DeviceClass.objects.get(position=0)
    page = administrator.post(url(DeviceClass, "change", row.pk), device_class_form(row, **changes))
    assert told in page.content.decode()
    assert DeviceClass.objects.get(position=0).as_rule() == row.as_rule()


def test_a_device_class_is_changed_added_and_deleted_by_the_service(administrator, filled):
    row = DeviceClass.objects.get(position=0)
    before = PublishRequest.objects.count()
    assert administrator.post(url(DeviceClass, "change", row.pk), device_class_form(row, os=["ios"])).status_code == 302
    form = {**device_class_form(row, **EVERY_CONDITION), "name": "tablets", "position": 9}
    assert administrator.post(url(DeviceClass, "add"), {**form, "variants": next(iter(RECIPES))}).status_code == 302
    added = DeviceClass.objects.get(name="tablets")
    assert (added.selector, added.variants) == (EVERY_CONDITION, [*RECIPES][:1])
    page = administrator.get(url(DeviceClass, "change", added.pk)).content.decode()
    for value in EVERY_CONDITION.values():
        for each in value if isinstance(value, list) else [value]:
            assert str(each) in page
    assert administrator.post(url(DeviceClass, "change", added.pk), device_class_form(added)).status_code == 302
    added.refresh_from_db()
    assert added.selector == EVERY_CONDITION, "saved again as it was shown"
    administrator.post(url(DeviceClass, "delete", DeviceClass.objects.get(name="tablets").pk), {"post": "yes"})
    assert PublishRequest.objects.count() == before + 4
    verbs = list(AuditEntry.objects.values_list("verb", flat=True)[:4])
    assert verbs == ["delete_device_class", "change_device_class", "add_device_class", "change_device_class"]


def test_the_last_device_class_stays(administrator, filled):
    last, *others = DeviceClass.objects.order_by("-position")
    for row in [*others, last]:
        administrator.post(url(DeviceClass, "delete", row.pk), {"post": "yes"})
    assert DeviceClass.objects.get() == last


def test_who_would_match_says_why_not_an_earlier_class(administrator, filled):
    query = "?application=demo&os=android&runtime=litert&ram_mb=3072"
    page = administrator.get(reverse("admin:registry_deviceclass_match") + query).content.decode()
    assert "No: os android is not one of ios" in page
    assert "No: ram_mb 3072 is below 6144" in page


def test_an_application_is_made_renamed_and_staffed_by_the_services(administrator):
    administrator.post(url(Application, "add"), {"slug": "shop", "name": "Shop"})
    app = Application.objects.get()
    assert app.channels.get().slug == "production"
    assert "which exists" in administrator.post(url(Application, "add"), {"slug": "shop", "name": "S"}).content.decode()
    user = factories.user("grace")
    form = {
        "name": "The shop",
        "memberships-TOTAL_FORMS": 1,
        "memberships-INITIAL_FORMS": 0,
        "memberships-0-user": user.pk,
        "memberships-0-role": 20,
    }
    assert administrator.post(url(Application, "change", app.pk), form).status_code == 302
    membership = Membership.objects.get()
    form |= {"memberships-INITIAL_FORMS": 1, "memberships-0-id": membership.pk, "memberships-0-DELETE": "on"}
    administrator.post(url(Application, "change", app.pk), form)
    assert not Membership.objects.exists()
    verbs = list(AuditEntry.objects.values_list("verb", flat=True)[:3])
    assert verbs == ["revoke", "grant", "rename_application"]


def test_the_log_tells_whether_its_chain_holds(administrator, filled, monkeypatch):
    assert "The chain holds" in administrator.get(url(AuditEntry, "changelist")).content.decode()
    monkeypatch.setattr(AuditEntry, "first_broken", AuditEntry.objects.first)
    assert "The chain is broken" in administrator.get(url(AuditEntry, "changelist")).content.decode()


def test_home_tells_what_is_live_waiting_stopped_converting_and_failed(administrator, filled):
    app = filled.model.application
    second = factories.converted_version(app)
    distribution_services.publish(channel=app.channels.get(), version=second, actor="ada", now=timezone.now())
    broken = factories.version(app, "broken")
    job = factories.job(broken, "trace", JobState.FAILED)
    job.report = {"error": {"detail": "expected layers, got none"}}
    job.save()
    factories.job(factories.version(app, "busy"))
    page = administrator.get("/admin/state/").content.decode()
    for told in ("version 1", "version 2", "engaged", "busy:1", "expected layers, got none", "revision"):
        assert told in page
    services.yank_version(version=broken, reason="x", actor="ada", now=NOW)
    assert "expected layers, got none" not in administrator.get("/admin/state/").content.decode()


def test_times_are_written_alike_everywhere(administrator, filled):
    """As the command line and REST do, and not as one country does."""
    page = administrator.get(url(Channel, "changelist")).content.decode()
    made = filled.model.application.channels.get().created_at
    assert f"{made:%Y-%m-%d %H:%M}" in page
