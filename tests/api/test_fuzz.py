"""Requests made from the OpenAPI document, right and wrong ones alike: each gets an answer that was thought of."""

import pytest

from registry.models import ApiToken, Role
from tests import factories
from tests.factories import NOW

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402

from deploy.wsgi import application as wsgi  # noqa: E402
from distribution import services as distribution_services  # noqa: E402

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
EXAMPLES = 12
NAMES = {
    "application": st.sampled_from(["demo", "demo", "demo", "none"]),
    "channel": st.sampled_from(["production", "none"]),
    "model": st.sampled_from(["digits", "none"]),
    "number": st.sampled_from([1, 1, 2**40]),
    "variant": st.sampled_from(["tflite-float32", "none"]),
    "recipe": st.sampled_from(["tflite-float32", "none"]),
    "device_class": st.sampled_from(["ios-coreml", "none"]),
    "other": st.sampled_from([1, 2**40]),
    "profile": st.sampled_from(["phones", "none"]),
    "reproduction": st.sampled_from([1, 2**40]),
    "user": st.sampled_from(["root", "none"]),
}


@pytest.fixture
def headers():
    app = factories.application()
    version = factories.converted_version(app)
    factories.job(version, "tflite-float32", "succeeded")
    version.model.profiles.create(name="phones", recipes=["tflite-float32"])
    distribution_services.publish(channel=app.channels.get(), version=version, actor="ada", now=NOW)
    root = factories.user("root", superuser=True)
    app.memberships.create(user=root, role=Role.ADMINISTRATOR)
    token = ApiToken.issue(user=root, name="fuzz", now=NOW, expires_at=NOW.replace(year=2100))[1]
    return {"Authorization": f"Bearer {token}", "Host": "localhost"}


def test_no_request_made_from_the_document_is_answered_by_5xx(headers):
    schema = schemathesis.openapi.from_wsgi("/api/v1/schema", wsgi, headers={"Host": "localhost"})
    statuses = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            fuzz(operation, mode, headers, statuses)
    assert len(statuses) > 50
    assert {200, 201, 400, 404} <= set().union(*statuses.values())


def fuzz(operation, mode, headers, statuses):
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def run(case, data):
        for name in set(case.path_parameters or {}) & set(NAMES):
            case.path_parameters[name] = data.draw(NAMES[name])
        answer = case.call(headers=headers)
        label = f"{operation.method.upper()} {operation.path}"
        statuses.setdefault(label, set()).add(answer.status_code)
        assert answer.status_code < 500 or b"root_not_signed" in answer.content, (label, case.body, answer.content)
        if answer.status_code >= 400:
            assert answer.headers["content-type"][0].startswith("application/problem+json"), (label, answer.content)

    try:
        run()
    except Exception as error:
        if type(error).__name__ not in ("Unsatisfiable", "InvalidArgument"):
            raise
