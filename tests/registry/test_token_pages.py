"""The admin's pages of API tokens: one's own are made and revoked, others' are seen by administrators."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from registry.models import ApiToken, AuditEntry, Role
from registry.services import grant
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services")]


@pytest.fixture
def application():
    return factories.application()


def signed_in(name, application=None, role=None, *, superuser=False):
    user = factories.user(name, superuser=superuser)
    user.is_staff = True
    user.save()
    if role is not None:
        grant(application=application, user=user, role=role, actor="tests", now=NOW)
    client = Client()
    client.force_login(user)
    return client


def page(name, *rows):
    return reverse(f"admin:registry_apitoken_{name}", args=[row.pk for row in rows])


def make(client, **changes):
    form = {"name": "nightly", "role": int(Role.EDITOR), "application": "", "days": 30, **changes}
    return client.post(page("add"), form)


def test_a_token_is_shown_once_works_and_is_revoked(application):
    ada = signed_in("ada", application, Role.RELEASER)
    text = re.search(r"aero_[\w-]+", make(ada, application=application.pk).content.decode()).group()
    row = ApiToken.objects.get()
    assert (row.user.username, row.role, row.application) == ("ada", Role.EDITOR, application)
    assert (row.expires_at - row.created_at).days == 30

    script = Client(headers={"Authorization": f"Bearer {text}"})
    assert script.get("/api/v1/applications/demo").status_code == 200
    for address in (page("changelist"), page("change", row), page("delete", row)):
        shown = ada.get(address).content.decode()
        assert "nightly" in shown
        assert text not in shown
        assert row.token_sha256 not in shown
    assert ada.post(page("delete", row))["Location"] == page("changelist")
    assert script.get("/api/v1/applications/demo").status_code == 401
    verbs = list(AuditEntry.objects.order_by("pk").values_list("verb", "actor", "subject"))[-2:]
    assert verbs == [("issue_token", "ada", "nightly"), ("revoke_token", "ada", "nightly")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"days": 367}, "less than or equal to 366"),
        ({"days": 0}, "greater than or equal to 1"),
        ({"role": 50}, "not one of the available choices"),
        ({"name": ""}, "required"),
    ],
)
def test_what_is_refused_is_told_and_no_token_is_made(application, changes, told):
    assert told in make(signed_in("ada", application, Role.VIEWER), **changes).content.decode()
    assert not ApiToken.objects.exists()


def test_an_application_of_others_cannot_be_named(application):
    other = factories.application("other")
    assert "valid choice" in make(signed_in("ada", application, Role.VIEWER), application=other.pk).content.decode()


def test_administrators_see_what_reaches_their_application_and_revoke_only_their_own(application):
    other = factories.application("other")
    grace = signed_in("grace", application, Role.EDITOR)
    grant(application=other, user=User.objects.get(username="grace"), role=Role.EDITOR, actor="tests", now=NOW)
    for name, where in (("everywhere", ""), ("here", application.pk), ("elsewhere", other.pk)):
        make(grace, name=name, application=where)
    ada, viewer = signed_in("ada", application, Role.ADMINISTRATOR), signed_in("vi", application, Role.VIEWER)
    listed = ada.get(page("changelist")).content.decode()
    assert [name in listed for name in ("everywhere", ">here<", "elsewhere")] == [True, True, False]
    assert "everywhere" not in viewer.get(page("changelist")).content.decode()
    here, elsewhere = ApiToken.objects.get(name="here"), ApiToken.objects.get(name="elsewhere")
    assert "Only grace can revoke it" in ada.get(page("change", here)).content.decode()
    assert ada.post(page("delete", here)).status_code == 403
    assert ada.get(page("change", elsewhere)).status_code == viewer.get(page("change", here)).status_code == 404
    assert viewer.post(page("delete", here)).status_code == 404
    root = signed_in("root", superuser=True)
    assert root.get(page("change", elsewhere)).status_code == 200
    assert ApiToken.objects.count() == 3


def test_what_others_wrote_is_shown_as_text(application):
    ada = signed_in("ada", application, Role.VIEWER)
    name = "<script>alert(1)</script>"
    assert name not in make(ada, name=name).content.decode()
    row = ApiToken.objects.get(name=name)
    for address in (page("changelist"), page("change", row), page("delete", row)):
        assert name not in ada.get(address).content.decode()
