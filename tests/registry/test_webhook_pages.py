"""The admin's pages of webhooks do what REST does, and show what was sent."""

import re

import pytest
from django.urls import reverse

from registry.models import AuditEntry, Role, Webhook, WebhookDelivery
from registry.services import grant, webhooks
from tests import factories
from tests.api.conftest import Caller
from tests.factories import NOW
from tests.registry.test_webhooks import URL, Receiving, attempt, told

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services")]
MARKED_UP = "<script>alert(1)</script>"


@pytest.fixture
def application():
    return factories.application()


@pytest.fixture
def webhook(application):
    return webhooks.create_webhook(application=application, name="ops", url=URL, event_types=[], actor="ada", now=NOW)[
        0
    ]


def signed_in(client, application, role):
    user = factories.user("somebody")
    user.is_staff = True
    user.save()
    grant(application=application, user=user, role=role, actor="tests", now=NOW)
    client.force_login(user)
    return client


@pytest.fixture
def administrator(client, application):
    return signed_in(client, application, Role.ADMINISTRATOR)


def page(name, *arguments):
    return reverse(f"admin:registry_webhook_{name}", args=[getattr(row, "pk", row) for row in arguments])


def secret_on(answer):
    return re.search(r"whsec_[\w+/=]+", answer.content.decode()).group()


def entries(since=0):
    fields = ("verb", "subject", "application", "before", "after", "reason")
    return list(AuditEntry.objects.filter(pk__gt=since).order_by("pk").values(*fields))


def make(client, demo, **changes):
    form = {"application": demo.slug, "name": "ops", "url": URL, "event_types": ["rollout.halted"], **changes}
    return client.post(page("add"), form)


def test_the_secret_is_shown_once_and_signs(administrator, application):
    secret = secret_on(make(administrator, application))
    row = Webhook.objects.get()
    assert (row.name, row.event_types, row.created_by) == ("ops", ["rollout.halted"], "somebody")
    assert webhooks.unseal(row.secret) == secret
    rotated = secret_on(administrator.post(page("rotate", row)))
    row.refresh_from_db()
    assert webhooks.unseal(row.secret) == rotated != secret
    webhooks.send_test(webhook=row, actor="ada", now=NOW)
    addresses = [page(name, row) for name in ("change", "edit", "rotate", "disable", "deliveries", "delete")]
    addresses += [page("changelist"), reverse("admin:registry_auditentry_changelist")]
    addresses.append(reverse("admin:registry_webhookdelivery_change", args=[row.deliveries.get().pk]))
    for address in addresses:
        answer = administrator.get(address)
        assert answer.status_code == 200, address
        assert "whsec_" not in answer.content.decode(), address


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"url": "http://hooks.example.com/"}, "expected https://, got http"),
        ({"url": "https://10.0.0.1/"}, "expected a public address, got 10.0.0.1"),
        ({"name": "Not A Slug"}, "lower-case letters"),
        ({"event_types": ["release.publish"]}, "release.publish is not one of the available choices"),
        ({"application": "other"}, "Select a valid choice"),
    ],
)
def test_what_is_refused_is_told_beside_its_field(administrator, application, changes, told):
    factories.application("other")
    answer = make(administrator, application, **changes)
    field = answer.content.decode().split(f'id="id_{next(iter(changes))}', 1)[1].split('<div class="ag-field">')[0]
    assert told in field
    assert not Webhook.objects.exists()


def test_a_name_that_is_taken_is_told_beside_it(administrator, application, webhook):
    assert "has the webhook &#x27;ops&#x27;" in make(administrator, application).content.decode()


def test_pages_and_rest_leave_the_same_lines_in_the_log(administrator, application):
    make(administrator, application, event_types=[])
    row = Webhook.objects.get()
    administrator.post(page("edit", row), {"url": f"{URL}/2", "event_types": ["rollout.held"], "row_version": 1})
    administrator.post(page("rotate", row))
    administrator.post(page("disable", row), {"reason": "moving house"})
    administrator.post(page("change", row), {"do": "enable"})
    row.refresh_from_db()
    assert (row.url, row.event_types, row.disabled_reason) == (f"{URL}/2", ["rollout.held"], "")
    administrator.post(page("delete", row), {"row_version": row.row_version})
    assert not Webhook.objects.exists()
    by_page = entries()[-6:]

    since = AuditEntry.objects.latest("pk").pk
    rest = Caller(factories.user("root", superuser=True))
    base = "/api/v1/applications/demo/webhooks"
    rest("POST", base, {"name": "ops", "url": URL})
    changed = {"url": f"{URL}/2", "event_types": ["rollout.held"]}
    one = f"{base}/ops"
    rest("PUT", one, changed, If_Match=rest("GET", one)["ETag"])
    rest("POST", f"{one}/rotate-secret")
    assert rest("POST", f"{one}/disable", {"reason": "moving house"}).json()["disabled_reason"] == "moving house"
    rest("PUT", one, changed, If_Match=rest("GET", one)["ETag"])
    rest("DELETE", one, If_Match=rest("GET", one)["ETag"])
    assert entries(since) == by_page
    assert [entry["verb"] for entry in by_page][3:] == ["disable_webhook", "change_webhook", "delete_webhook"]


@pytest.mark.parametrize("name", ["edit", "delete"])
def test_what_somebody_else_changed_meanwhile_is_not_overwritten(administrator, webhook, name):
    webhooks.change_webhook(webhook=webhook, url=f"{URL}/new", event_types=[], actor="ada", now=NOW)
    answer = administrator.post(page(name, webhook), {"url": URL, "row_version": 1}, follow=True)
    assert "was changed since" in answer.content.decode()
    assert Webhook.objects.get().url == f"{URL}/new"


def test_a_delivery_shows_the_request_as_it_was_sent_and_the_answer(administrator, application, webhook):
    (delivery,) = told(application)
    address = reverse("admin:registry_webhookdelivery_change", args=[delivery.pk])
    assert "Not sent yet" in administrator.get(address).content.decode()
    receiving = Receiving(500)
    attempt(delivery, receiving, NOW)
    ((_, headers, text),) = receiving.sent
    shown = administrator.get(address).content.decode()
    for name, value in headers.items():
        assert f"{name}: {value}" in shown
    assert text.replace('"', "&quot;") in shown
    assert "answered 500" in shown
    listed = administrator.get(page("deliveries", webhook)).content.decode()
    assert "release.published" in listed
    assert ">500<" in listed


def test_redelivery_leads_to_one_more_attempt(administrator, application, webhook):
    (delivery,) = told(application)
    receiving = Receiving(200, 200)
    attempt(delivery, receiving, NOW)
    address = reverse("admin:registry_webhookdelivery_change", args=[delivery.pk])
    since = AuditEntry.objects.latest("pk").pk
    assert administrator.post(address)["Location"] == page("change", webhook)
    delivery.refresh_from_db()
    assert webhooks.claim_due_deliveries(delivery.next_attempt_at) == [delivery.pk]
    for _ in range(2):
        attempt(delivery, receiving, delivery.next_attempt_at)
    (_, first, text), (_, second, again) = receiving.sent
    assert (first["webhook-id"], text) == (second["webhook-id"], again)
    assert [entry["verb"] for entry in entries(since)] == ["redeliver"]


def test_a_test_message_is_sent_and_a_disabled_webhook_says_why_not(administrator, webhook):
    administrator.post(page("change", webhook), {"do": "test"})
    assert WebhookDelivery.objects.get().event_type == "webhook.test"
    webhooks.disable_webhook(webhook=webhook, reason=MARKED_UP, actor="ada", now=NOW)
    answer = administrator.post(page("change", webhook), {"do": "test"}, follow=True).content.decode()
    assert WebhookDelivery.objects.count() == 1
    assert "expected a webhook that is told of events" in answer


def test_what_others_wrote_is_shown_as_text(administrator, application, webhook):
    webhooks.notify(
        application=application, event_type="rollout.held", subject=MARKED_UP, data={"why": MARKED_UP}, now=NOW
    )
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(answer=MARKED_UP, answer_status=500)
    webhooks.disable_webhook(webhook=webhook, reason=MARKED_UP, actor="ada", now=NOW)
    delivery_page = reverse("admin:registry_webhookdelivery_change", args=[delivery.pk])
    for address in (page("change", webhook), page("changelist"), delivery_page):
        assert MARKED_UP not in administrator.get(address).content.decode()
    assert administrator.get(delivery_page).content.decode().count("&lt;script&gt;alert(1)") == 3


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RELEASER])
def test_only_administrators_see_and_change_webhooks(client, application, webhook, role):
    member = signed_in(client, application, role)
    delivery = webhooks.send_test(webhook=webhook, actor="ada", now=NOW)
    since = AuditEntry.objects.latest("pk").pk
    forms = {"edit": {"url": f"{URL}/2", "row_version": 1}, "disable": {"reason": "x"}, "delete": {"row_version": 1}}
    for name in ("change", "edit", "rotate", "disable", "delete"):
        assert member.post(page(name, webhook), forms.get(name, {"do": "test"})).status_code == 403, name
    assert make(member, application, name="mine").status_code == 403
    assert member.post(reverse("admin:registry_webhookdelivery_change", args=[delivery.pk])).status_code == 403
    assert "Webhooks" not in member.get("/admin/").content.decode()
    assert entries(since) == []


def test_another_applications_webhooks_are_hidden(administrator, webhook):
    other = factories.application("other")
    hidden, _ = webhooks.create_webhook(
        application=other, name="not-mine", url=URL, event_types=[], actor="ada", now=NOW
    )
    assert "not-mine" not in administrator.get(page("changelist")).content.decode()
    assert administrator.get(page("change", hidden)).status_code == 403
