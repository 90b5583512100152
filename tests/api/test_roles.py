"""Who may do what, for every method of every address. A method that is missing from this table fails.

The table stands here and not in the code that it checks: a role that is changed by mistake differs from it.
"""

import re

import pytest
from django.test import Client

from registry import services
from registry.models import ApiToken, Role
from tests import factories
from tests.api.routes import endpoints, filled
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]

ANYBODY, CALLER, SUPERUSER = "anybody", "caller with a token", "superuser"
VIEWER, EDITOR, RELEASER, ADMINISTRATOR = Role.VIEWER, Role.EDITOR, Role.RELEASER, Role.ADMINISTRATOR
APPLICATION = "applications/{application}"
MODEL = f"{APPLICATION}/models/{{model}}"
VERSION = f"{MODEL}/versions/{{number}}"
JOB = f"{VERSION}/jobs/{{recipe}}"
VARIANT = f"{VERSION}/variants/{{variant}}"
WEBHOOK = f"{APPLICATION}/webhooks/{{webhook}}"
CHANNEL = f"{APPLICATION}/channels/{{channel}}"
EXPERIMENT = f"{APPLICATION}/experiments/{{experiment}}"
NEEDED = {
    ("GET", "schema"): ANYBODY,
    ("GET", "docs"): ANYBODY,
    ("GET", "applications"): CALLER,
    ("POST", "applications"): SUPERUSER,
    ("GET", "audit-log"): SUPERUSER,
    ("GET", "tokens"): CALLER,
    ("POST", "tokens"): CALLER,
    ("GET", "tokens/{token}"): CALLER,
    ("DELETE", "tokens/{token}"): CALLER,
    ("GET", APPLICATION): VIEWER,
    ("PATCH", APPLICATION): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/audit-log"): VIEWER,
    ("GET", f"{APPLICATION}/channels"): VIEWER,
    ("POST", f"{APPLICATION}/channels"): ADMINISTRATOR,
    ("GET", CHANNEL): VIEWER,
    ("POST", f"{APPLICATION}/device-class-match"): VIEWER,
    ("GET", f"{APPLICATION}/device-classes"): VIEWER,
    ("POST", f"{APPLICATION}/device-classes"): ADMINISTRATOR,
    ("PUT", f"{APPLICATION}/device-classes"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/device-classes/{{device_class}}"): VIEWER,
    ("PUT", f"{APPLICATION}/device-classes/{{device_class}}"): ADMINISTRATOR,
    ("DELETE", f"{APPLICATION}/device-classes/{{device_class}}"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/jobs"): VIEWER,
    ("GET", f"{APPLICATION}/memberships"): VIEWER,
    ("POST", f"{APPLICATION}/memberships"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/memberships/{{user}}"): VIEWER,
    ("PUT", f"{APPLICATION}/memberships/{{user}}"): ADMINISTRATOR,
    ("DELETE", f"{APPLICATION}/memberships/{{user}}"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/uploads"): EDITOR,
    ("POST", f"{APPLICATION}/uploads"): EDITOR,
    ("GET", f"{APPLICATION}/uploads/{{upload}}"): EDITOR,
    ("DELETE", f"{APPLICATION}/uploads/{{upload}}"): EDITOR,
    ("GET", f"{APPLICATION}/webhooks"): ADMINISTRATOR,
    ("POST", f"{APPLICATION}/webhooks"): ADMINISTRATOR,
    ("GET", WEBHOOK): ADMINISTRATOR,
    ("PUT", WEBHOOK): ADMINISTRATOR,
    ("DELETE", WEBHOOK): ADMINISTRATOR,
    ("GET", f"{WEBHOOK}/deliveries"): ADMINISTRATOR,
    ("GET", f"{WEBHOOK}/deliveries/{{delivery}}"): ADMINISTRATOR,
    ("POST", f"{WEBHOOK}/deliveries/{{delivery}}/redeliver"): ADMINISTRATOR,
    ("POST", f"{WEBHOOK}/disable"): ADMINISTRATOR,
    ("POST", f"{WEBHOOK}/rotate-secret"): ADMINISTRATOR,
    ("POST", f"{WEBHOOK}/test"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/models"): VIEWER,
    ("POST", f"{APPLICATION}/models"): EDITOR,
    ("GET", MODEL): VIEWER,
    ("PATCH", MODEL): EDITOR,
    ("GET", f"{MODEL}/versions"): VIEWER,
    ("POST", f"{MODEL}/versions"): EDITOR,
    ("GET", VERSION): VIEWER,
    ("GET", f"{VERSION}/jobs"): VIEWER,
    ("GET", f"{VERSION}/jobs/{{recipe}}"): VIEWER,
    ("GET", f"{VERSION}/variants"): VIEWER,
    ("GET", f"{VERSION}/variants/{{variant}}"): VIEWER,
    ("POST", f"{VERSION}/yank"): RELEASER,
    ("GET", f"{MODEL}/gates"): VIEWER,
    ("PUT", f"{MODEL}/gates"): RELEASER,
    ("GET", f"{MODEL}/profiles"): VIEWER,
    ("POST", f"{MODEL}/profiles"): EDITOR,
    ("GET", f"{MODEL}/profiles/{{profile}}"): VIEWER,
    ("PUT", f"{MODEL}/profiles/{{profile}}"): EDITOR,
    ("DELETE", f"{MODEL}/profiles/{{profile}}"): EDITOR,
    ("POST", f"{VERSION}/jobs"): EDITOR,
    ("POST", f"{VERSION}/cancel"): EDITOR,
    ("GET", f"{VERSION}/compare/{{other}}"): VIEWER,
    ("GET", f"{VERSION}/matrix"): VIEWER,
    ("POST", f"{VERSION}/rebuild"): EDITOR,
    ("POST", f"{JOB}/cancel"): EDITOR,
    ("POST", f"{JOB}/priority"): EDITOR,
    ("POST", f"{JOB}/retry"): EDITOR,
    ("GET", f"{VARIANT}/benchmarks"): VIEWER,
    ("POST", f"{VARIANT}/benchmarks"): EDITOR,
    ("GET", f"{VARIANT}/override"): VIEWER,
    ("POST", f"{VARIANT}/override"): RELEASER,
    ("GET", f"{VARIANT}/reproductions"): VIEWER,
    ("POST", f"{VARIANT}/reproductions"): EDITOR,
    ("GET", f"{VARIANT}/reproductions/{{reproduction}}"): VIEWER,
    ("GET", f"{CHANNEL}/releases"): VIEWER,
    ("POST", f"{CHANNEL}/releases"): RELEASER,
    ("GET", f"{CHANNEL}/releases/{{release}}"): VIEWER,
    ("POST", "enrolments"): ANYBODY,
    ("GET", f"{CHANNEL}/settings"): VIEWER,
    ("PUT", f"{CHANNEL}/settings"): ADMINISTRATOR,
    ("GET", f"{CHANNEL}/release-requests"): VIEWER,
    ("POST", f"{CHANNEL}/release-requests"): RELEASER,
    ("GET", f"{CHANNEL}/release-requests/{{release_request}}"): VIEWER,
    ("PATCH", f"{CHANNEL}/release-requests/{{release_request}}"): RELEASER,
    ("DELETE", f"{CHANNEL}/release-requests/{{release_request}}"): RELEASER,
    ("POST", f"{CHANNEL}/release-requests/{{release_request}}/approve"): RELEASER,
    ("GET", f"{CHANNEL}/models/{{model}}/floors"): VIEWER,
    ("PUT", f"{CHANNEL}/models/{{model}}/floors"): RELEASER,
    ("GET", f"{CHANNEL}/models/{{model}}/pins"): VIEWER,
    ("POST", f"{CHANNEL}/models/{{model}}/pins"): RELEASER,
    ("DELETE", f"{CHANNEL}/models/{{model}}/pins/{{pin}}"): RELEASER,
    ("GET", f"{CHANNEL}/test-devices"): VIEWER,
    ("POST", f"{CHANNEL}/test-devices"): RELEASER,
    ("DELETE", f"{CHANNEL}/test-devices/{{test_device}}"): RELEASER,
    ("POST", f"{CHANNEL}/promote"): RELEASER,
    ("POST", f"{CHANNEL}/rollback"): RELEASER,
    ("GET", f"{CHANNEL}/kill-switches"): VIEWER,
    ("GET", f"{CHANNEL}/kill-switches/{{model}}"): VIEWER,
    ("POST", f"{CHANNEL}/kill-switches/{{model}}"): RELEASER,
    ("DELETE", f"{CHANNEL}/kill-switches/{{model}}"): RELEASER,
    ("GET", f"{CHANNEL}/models/{{model}}/explain"): VIEWER,
    ("POST", f"{APPLICATION}/units/forget"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/experiments"): VIEWER,
    ("POST", f"{APPLICATION}/experiments"): EDITOR,
    ("GET", f"{APPLICATION}/rollouts"): VIEWER,
    ("POST", f"{APPLICATION}/rollouts"): EDITOR,
    ("GET", EXPERIMENT): VIEWER,
    ("PATCH", EXPERIMENT): EDITOR,
    ("POST", f"{EXPERIMENT}/actions/submit"): EDITOR,
    ("POST", f"{EXPERIMENT}/actions/approve"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/reject"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/start"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/pause"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/resume"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/advance"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/approve-step"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/ramp"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/supersede"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/rerandomise"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/halt"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/rollback"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/complete"): RELEASER,
    ("POST", f"{EXPERIMENT}/actions/archive"): EDITOR,
    ("GET", f"{EXPERIMENT}/status"): VIEWER,
    ("GET", f"{EXPERIMENT}/explain"): VIEWER,
    ("GET", f"{EXPERIMENT}/results"): VIEWER,
    ("GET", f"{EXPERIMENT}/detectable"): VIEWER,
    ("GET", f"{EXPERIMENT}/changes"): VIEWER,
    ("GET", f"{EXPERIMENT}/overrides"): VIEWER,
    ("POST", f"{EXPERIMENT}/overrides"): RELEASER,
    ("DELETE", f"{EXPERIMENT}/overrides/{{unit_key}}"): RELEASER,
    ("GET", f"{CHANNEL}/models/{{model}}/holdback"): VIEWER,
    ("PUT", f"{CHANNEL}/models/{{model}}/holdback"): RELEASER,
    ("DELETE", f"{CHANNEL}/models/{{model}}/holdback"): RELEASER,
    ("GET", f"{APPLICATION}/holdbacks"): VIEWER,
    ("GET", f"{APPLICATION}/layers"): VIEWER,
    ("GET", f"{APPLICATION}/layers/{{layer}}/map"): VIEWER,
    ("GET", f"{APPLICATION}/embedded-models"): VIEWER,
    ("POST", f"{APPLICATION}/embedded-models"): EDITOR,
    ("GET", f"{APPLICATION}/patches"): VIEWER,
    ("GET", f"{APPLICATION}/revisions"): VIEWER,
    ("GET", f"{APPLICATION}/revisions/{{revision}}"): VIEWER,
    ("GET", f"{APPLICATION}/trust/root"): VIEWER,
    ("POST", f"{APPLICATION}/trust/root"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/trust/targets"): RELEASER,
    ("POST", f"{APPLICATION}/trust/targets"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/trust/keys"): VIEWER,
    ("POST", f"{APPLICATION}/trust/keys"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/trust/status"): VIEWER,
    ("GET", f"{APPLICATION}/attestation"): VIEWER,
    ("PUT", f"{APPLICATION}/attestation"): ADMINISTRATOR,
    ("GET", f"{APPLICATION}/content-keys"): VIEWER,
    ("POST", f"{APPLICATION}/content-keys/{{content_key}}/revoke"): RELEASER,
    ("GET", f"{APPLICATION}/key-calls"): VIEWER,
    ("GET", f"{MODEL}/protection"): VIEWER,
    ("PUT", f"{MODEL}/protection"): ADMINISTRATOR,
    ("GET", f"{MODEL}/minimum-release-counter"): VIEWER,
    ("POST", f"{MODEL}/minimum-release-counter"): ADMINISTRATOR,
    ("GET", f"{CHANNEL}/embedded/{{model}}"): VIEWER,
}
BY_ROLE = sorted((method, path, role) for (method, path), role in NEEDED.items() if isinstance(role, Role))


def test_the_table_names_every_method_of_every_address_and_no_other():
    assert set(endpoints()) == set(NEEDED)


@pytest.fixture
def app():
    app = factories.application()
    version = factories.converted_version(app)
    factories.job(version, "tflite-float32")
    return app


def ask(method, path, **headers):
    client = Client(headers=headers)
    return client.generic(method, filled(path), "{}", content_type="application/json")


def bearer(user, **scope):
    token = ApiToken.issue(user=user, name="t", now=NOW, expires_at=NOW.replace(year=2100), **scope)[1]
    return {"Authorization": f"Bearer {token}"}


def member(app, role, name="caller"):
    user = factories.user(name)
    services.grant(application=app, user=user, role=role, actor="tests", now=NOW)
    return user


def require_refused(answer, words):
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path"), sorted(key for key, role in NEEDED.items() if role != ANYBODY))
def test_nobody_does_anything_without_a_token(app, method, path):
    assert ask(method, path).status_code == 401


@pytest.mark.parametrize(("method", "path", "needed"), BY_ROLE)
def test_each_role_does_its_verbs_and_is_refused_the_others(app, method, path, needed):
    for role in Role:
        answer = ask(method, path, **bearer(member(app, role, role.label)))
        if role < needed:
            require_refused(answer, f"expected the role {needed.label} in demo, got {role.label}")
        else:
            assert answer.status_code not in (401, 403, 405), answer.content
            assert answer.status_code < 500 or answer.json()["code"] == "root_not_signed"


@pytest.mark.parametrize(("method", "path", "needed"), BY_ROLE)
def test_a_stranger_and_a_token_of_less_reach_are_refused(app, method, path, needed):
    require_refused(ask(method, path, **bearer(factories.user("stranger"))), "got no role")
    root = factories.user("root", superuser=True)
    other = factories.application("other")
    require_refused(
        ask(method, path, **bearer(root, application=other)), "expected a token for demo, got one for other"
    )
    if needed > Role.VIEWER:
        require_refused(ask(method, path, **bearer(root, role=Role.VIEWER)), "a token that goes up to viewer")


@pytest.mark.parametrize(("method", "path"), sorted(key for key, role in NEEDED.items() if role == SUPERUSER))
def test_what_is_the_superusers_alone(app, method, path):
    require_refused(ask(method, path, **bearer(member(app, ADMINISTRATOR))), "expected a superuser")
    root = factories.user("root", superuser=True)
    require_refused(ask(method, path, **bearer(root, role=Role.RELEASER)), "a narrower one")
    require_refused(ask(method, path, **bearer(root, application=app)), "a narrower one")
    assert ask(method, path, **bearer(root)).status_code in (200, 400)


def test_a_method_without_a_verb_cannot_be_written():
    from registry.api.base import NounView

    with pytest.raises(TypeError, match="expected verbs for"):
        type("Open", (NounView,), {"get": lambda self, request: None})


def test_the_document_is_open_and_its_page_asks_no_other_server():
    assert Client().get("/api/v1/schema").status_code == 200
    page = Client().get("/api/v1/docs").content.decode()
    assets = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(assets) > 2
    for asset in assets:
        assert asset.startswith("/static/")
        answer = Client().get(asset)
        answer.close()
        assert answer.status_code == 200, asset
