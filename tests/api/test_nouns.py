"""What the REST API gives and takes, noun by noun: lists in pages, filters, changes from a known state, problems."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError
from django.test import Client

from distribution import services as distribution_services
from experiments import services as experiments
from registry.models import ApiToken, AuditEntry, JobState, Role
from tests import factories
from tests.api.routes import EXAMPLES, endpoints
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


def pages(ask, path):
    while path:
        answer = ask("GET", path)
        yield answer.json()
        link = answer.headers.get("Link", "")
        path = link.partition("<http://testserver")[2].partition(">")[0]


def later(**duration):
    return (datetime.now(UTC) + timedelta(**duration)).isoformat()


class TestPages:
    def test_a_list_comes_in_pages_that_link_to_the_next(self, app, administrator):
        for slug in ("beta", "canary", "nightly"):
            administrator("POST", "channels", {"slug": slug})
        slugs = [[row["slug"] for row in page] for page in pages(administrator, "channels?limit=2")]
        assert slugs == [["beta", "canary"], ["nightly", "production"]]

    def test_rows_added_meanwhile_move_nothing(self, app, administrator):
        for _ in range(4):
            factories.version(app)
        seen = pages(administrator, "models/digits/versions?limit=2&yanked=false")
        first = next(seen)
        factories.version(app)
        assert [row["number"] for row in [*first, *next(seen)]] == [4, 3, 2, 1]

    @pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "after=x", "after=-1", "after=" + "9" * 40])
    def test_a_wrong_page_is_a_clear_problem(self, app, administrator, query):
        answer = administrator("GET", f"uploads?{query}")
        assert (answer.status_code, answer.json()["field"]) == (400, query.partition("=")[0])

    def test_every_list_of_the_api_takes_a_limit(self, app, administrator):
        lists = [path for method, path in endpoints() if method == "GET" and path.endswith("s") and "{" in path]
        version = factories.converted_version(app)
        factories.job(version)
        experiments.create(
            channel=app.channels.get(),
            model=version.model,
            slug="faster",
            kind="rollout",
            version=version.number,
            actor="ada",
            now=NOW,
        )
        app.webhooks.create(name="ops", url="https://hooks.example.com/", secret="sealed", created_at=NOW)
        names = {**EXAMPLES, "variant": version.variants.get().name}
        for path in lists:
            assert administrator("GET", f"/api/v1/{path.format(**names)}?limit=1").status_code == 200, path


class TestChangesFromAKnownState:
    CHANGES = [
        ("PATCH", "", {"name": "New"}),
        ("PATCH", "models/digits", {"name": "New"}),
        ("PUT", "memberships/ada", {"role": "editor"}),
        ("DELETE", "memberships/ada", None),
        ("PUT", "device-classes/ios-coreml", {"name": "ios-coreml", "variants": ["coreml-fp16"]}),
        ("DELETE", "device-classes/ios-coreml", None),
        ("PUT", "webhooks/ops", {"url": "https://hooks.example.com/new"}),
        ("DELETE", "webhooks/ops", None),
        ("PUT", "device-classes", {"order": ["everything-else", "onnxruntime", "android-high", "ios-coreml"]}),
    ]

    @pytest.fixture
    def rows(self, app, caller):
        factories.version(app)
        app.webhooks.create(name="ops", url="https://hooks.example.com/", secret="sealed", created_at=NOW)
        caller(Role.VIEWER, "ada")

    @pytest.mark.parametrize(("method", "path", "body"), CHANGES)
    def test_a_change_needs_the_tag_of_the_present_state(self, rows, administrator, method, path, body):
        before = AuditEntry.objects.count()
        tag = administrator("GET", path)["ETag"]
        missing = administrator(method, path, body)
        assert (missing.status_code, missing.json()["code"]) == (428, "if_match_missing")
        stale = administrator(method, path, body, If_Match='"1.999"')
        assert (stale.status_code, stale.json()["code"]) == (412, "stale")
        assert AuditEntry.objects.count() == before
        assert administrator(method, path, body, If_Match=tag).status_code in (200, 204)
        again = administrator(method, path, body, If_Match=tag)
        assert again.status_code == (404 if method == "DELETE" else 412)
        assert AuditEntry.objects.count() == before + 1

    @pytest.mark.parametrize(("method", "path", "body"), [change for change in CHANGES if change[0] != "DELETE"])
    def test_the_answer_carries_the_next_tag(self, rows, administrator, method, path, body):
        tag = administrator("GET", path)["ETag"]
        answer = administrator(method, path, body, If_Match=tag)
        assert answer["ETag"] == administrator("GET", path)["ETag"] != tag

    def test_a_write_past_the_api_counts_too(self, app, administrator):
        tag = administrator("GET", "")["ETag"]
        type(app).objects.update(name="by hand")
        assert administrator("PATCH", "", {"name": "x"}, If_Match=tag).status_code == 412

    def test_a_changed_class_makes_the_lists_tag_stale(self, app, administrator):
        tag = administrator("GET", "device-classes")["ETag"]
        app.device_classes.filter(name="ios-coreml").update(delegate_order=["cpu"])
        body = {"order": ["everything-else", "onnxruntime", "android-high", "ios-coreml"]}
        assert administrator("PUT", "device-classes", body, If_Match=tag).status_code == 412


class TestDeviceClasses:
    def test_the_tester_says_which_class_and_why_not_the_earlier_ones(self, app, caller):
        answer = caller(Role.VIEWER)("POST", "device-class-match", {"os": "android", "runtime": "litert"}).json()
        assert answer["device_class"] == "everything-else"
        assert answer["earlier"][0] == {"device_class": "ios-coreml", "why_not": "os android is not one of ios"}
        assert "ram_mb is unknown" in answer["earlier"][1]["why_not"]

    def test_the_order_is_what_the_tester_follows(self, app, administrator):
        order = ["everything-else", "ios-coreml", "onnxruntime", "android-high"]
        tag = administrator("GET", "device-classes")["ETag"]
        changed = administrator("PUT", "device-classes", {"order": order}, If_Match=tag)
        assert [row["name"] for row in changed.json()] == order
        answer = administrator("POST", "device-class-match", {"os": "ios", "runtime": "coreml"})
        assert answer.json()["device_class"] == "everything-else"
        assert app.publish_requests.filter(reason__contains="order").exists()

    @pytest.mark.parametrize("order", [[], ["ios-coreml"], ["ios-coreml"] * 3])
    def test_an_order_names_every_class_once(self, app, administrator, order):
        tag = administrator("GET", "device-classes")["ETag"]
        answer = administrator("PUT", "device-classes", {"order": order}, If_Match=tag)
        assert (answer.status_code, answer.json()["field"]) == (400, "order")

    def test_a_class_is_added_at_the_end_and_replaced(self, app, administrator):
        body = {"name": "wear", "variants": ["tflite-full-int8"], "selector": {"os": ["wear"]}}
        made = administrator("POST", "device-classes", body)
        assert (made.status_code, made.json()["position"]) == (201, 4)
        body["selector"] = {"colour": ["red"]}
        answer = administrator("PUT", "device-classes/wear", body, If_Match=made["ETag"])
        assert (answer.status_code, answer.json()["field"]) == (400, "selector")
        body["selector"] = {"os": ["wear", "watch"]}
        answer = administrator("PUT", "device-classes/wear", body, If_Match=made["ETag"])
        assert answer.json()["selector"] == {"os": ["wear", "watch"]}


class TestMembers:
    def test_granted_changed_and_revoked(self, app, administrator):
        factories.user("grace")
        made = administrator("POST", "memberships", {"user": "grace", "role": "viewer"})
        assert (made.status_code, made.json()) == (201, {"user": "grace", "role": "viewer"})
        again = administrator("POST", "memberships", {"user": "grace", "role": "editor"})
        assert (again.status_code, again.json()["code"]) == (409, "already_member")
        changed = administrator("PUT", "memberships/grace", {"role": "editor"}, If_Match=made["ETag"])
        assert changed.json()["role"] == "editor"
        assert administrator("DELETE", "memberships/grace", If_Match=changed["ETag"]).status_code == 204
        assert administrator("GET", "memberships/grace").status_code == 404

    def test_an_unknown_user_is_named(self, app, administrator):
        answer = administrator("POST", "memberships", {"user": "nobody", "role": "viewer"})
        assert (answer.status_code, answer.json()["field"]) == (400, "user")


class TestFilters:
    @pytest.fixture
    def released(self, app):
        channel = app.channels.get()
        for model in ("digits", "letters"):
            version = factories.converted_version(app, model)
            distribution_services.publish(channel=channel, version=version, actor="ada", now=NOW, reason="r")
        factories.job(version, "tflite-float32", JobState.FAILED)
        switch = {"channel": channel, "model": version.model, "actor": "ada", "reason": "r"}
        distribution_services.engage_kill_switch(**switch, now=NOW)
        return channel

    @pytest.mark.parametrize(
        ("path", "count"),
        [
            ("channels/production/releases", 2),
            ("channels/production/releases?model=digits", 1),
            ("channels/production/releases?state=live", 0),
            ("channels/production/kill-switches?engaged=true", 1),
            ("channels/production/kill-switches?engaged=false", 0),
            ("channels/production/kill-switches?model=digits", 0),
            ("jobs?state=failed&model=letters", 1),
            ("jobs?recipe=trace", 0),
            ("audit-log?verb=publish", 2),
            ("audit-log?actor=ada&subject=letters%20on%20production", 1),
            (f"audit-log?actor=ada&since={NOW:%Y-%m-%dT%H:%M:%SZ}", 3),
            (f"audit-log?actor=ada&until={NOW:%Y-%m-%dT%H:%M:%SZ}", 0),
            ("models/digits/versions?source_format=keras", 1),
            ("models/digits/versions?yanked=true", 0),
        ],
    )
    def test_filters(self, released, administrator, path, count):
        assert len(administrator("GET", path).json()) == count

    def test_a_filter_out_of_its_words_is_refused(self, app, administrator):
        answer = administrator("GET", "jobs?state=asleep")
        assert (answer.status_code, answer.json()["field"]) == (400, "state")

    def test_the_log_of_one_application_holds_none_of_another(self, released, administrator, root):
        factories.application("other")
        assert {row["application"] for row in administrator("GET", "audit-log").json()} == {"demo"}
        assert "other" in {row["application"] for row in root("GET", "/api/v1/audit-log").json()}


class TestTokens:
    BODY = {"name": "ci", "role": "editor", "application": "demo"}

    def test_a_token_is_shown_once_and_kept_as_a_hash(self, app, administrator):
        made = administrator("POST", "/api/v1/tokens", {**self.BODY, "expires_at": later(days=30)})
        assert made.status_code == 201
        row = ApiToken.objects.get(pk=made.json()["id"])
        assert row.token_sha256 == ApiToken.hash(made.json()["token"])
        kept = json.dumps(list(ApiToken.objects.values()), default=str) + json.dumps(
            list(AuditEntry.objects.values()), default=str
        )
        assert made.json()["token"] not in kept
        assert "token" not in administrator("GET", f"/api/v1/tokens/{row.pk}").json()

    def test_its_scope_holds_below_its_users_role(self, app, administrator):
        made = administrator("POST", "/api/v1/tokens", {**self.BODY, "expires_at": later(days=30)}).json()
        scoped = Client(headers={"Authorization": f"Bearer {made['token']}"})
        assert scoped.get("/api/v1/applications/demo/uploads").status_code == 200
        answer = scoped.post("/api/v1/applications/demo/channels", {"slug": "x"}, content_type="application/json")
        assert "goes up to editor" in answer.json()["detail"]

    def test_no_token_makes_a_wider_one_or_sees_it(self, app, administrator):
        made = administrator("POST", "/api/v1/tokens", {**self.BODY, "expires_at": later(days=30)}).json()
        scoped = Client(headers={"Authorization": f"Bearer {made['token']}"})
        for wider in ({"role": "releaser"}, {"application": None}):
            body = {**self.BODY, "expires_at": later(days=1), **wider}
            answer = scoped.post("/api/v1/tokens", body, content_type="application/json")
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
        assert [row["id"] for row in scoped.get("/api/v1/tokens").json()] == [made["id"]]
        assert len(administrator("GET", "/api/v1/tokens").json()) == 2

    def test_a_revoked_token_is_refused_at_once(self, app, administrator):
        made = administrator("POST", "/api/v1/tokens", {**self.BODY, "expires_at": later(days=30)}).json()
        assert administrator("DELETE", f"/api/v1/tokens/{made['id']}").status_code == 204
        scoped = Client(headers={"Authorization": f"Bearer {made['token']}"})
        assert scoped.get("/api/v1/applications").status_code == 401
        assert AuditEntry.objects.first().verb == "revoke_token"

    def test_another_users_token_is_not_found(self, app, administrator, root):
        theirs = ApiToken.objects.get(user=root.user)
        assert administrator("DELETE", f"/api/v1/tokens/{theirs.pk}").status_code == 404

    @pytest.mark.parametrize("life", [{"days": -1}, {"days": 400}])
    def test_every_token_ends(self, app, administrator, life):
        answer = administrator("POST", "/api/v1/tokens", {**self.BODY, "expires_at": later(**life)})
        assert (answer.status_code, answer.json()["field"]) == (400, "expires_at")

    def test_a_token_is_never_kept_for_a_replay(self, app, administrator):
        body = {**self.BODY, "expires_at": later(days=1)}
        assert administrator("POST", "/api/v1/tokens", body, Idempotency_Key="k").status_code == 400


class TestProblems:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"{", "parse_error"),
            (b"\xff", "parse_error"),
            (b'{"slug": "\\u0000"}', "parse_error"),
            (b'{"slug": "\\ud800"}', "parse_error"),
            (b'{"slug": 1e999}', "parse_error"),
            (b'{"slug": NaN}', "parse_error"),
            (b"[" * 100_000, "parse_error"),
            (b'{"slug": ' + b"[" * 50 + b"]" * 50 + b"}", "parse_error"),
            (b'{"slug": ' + b"9" * 5000 + b"}", "parse_error"),
            (b'{"slug": "x", "colour": 1}', "invalid"),
            (b"[]", "invalid"),
            (b'"x"', "invalid"),
            (b"", "invalid"),
        ],
    )
    def test_a_body_that_cannot_be_read_is_a_problem(self, app, administrator, body, code):
        path = "/api/v1/applications/demo/channels"
        answer = administrator.client.post(path, body, content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert answer["Content-Type"] == "application/problem+json"

    def test_a_misspelt_member_is_named(self, app, administrator):
        answer = administrator("POST", "models/digits/versions", {"source": 1, "evalution_set": 2})
        assert answer.json()["field"] == "evalution_set"

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/api/v1/nowhere", 404),
            ("GET", "/api/v1/applications/%00/models", 404),
            ("DELETE", "/api/v1/applications", 405),
            ("OPTIONS", "/api/v1/applications", 405),
            ("GET", "/api/v1/applications/demo/models/x/versions/99999999999999999999999", 404),
        ],
    )
    def test_addresses_and_methods_that_do_not_exist(self, app, administrator, method, path, status):
        answer = administrator.client.generic(method, path)
        assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")

    def test_other_media_types(self, app, administrator):
        path = "/api/v1/applications/demo/channels"
        assert (
            administrator.client.post(path, b"<x/>", content_type="text/xml").json()["code"] == "unsupported_media_type"
        )
        assert administrator.client.get(path, headers={"Accept": "text/html"}).json()["code"] == "not_acceptable"

    def test_a_database_that_is_away_is_503_and_a_bug_is_500(self, app, administrator, monkeypatch):
        administrator.client.raise_request_exception = False
        for raised, told in (
            (OperationalError("away"), (503, "unavailable")),
            (KeyError("x"), (500, "internal_error")),
        ):

            def fail(*_arguments, error=raised):
                raise error

            monkeypatch.setattr("registry.api.views.applications.ChannelsView.get", fail)
            answer = administrator("GET", "channels")
            assert (answer.status_code, answer.json()["code"]) == told

    def test_an_unknown_host_is_a_problem_too(self, app):
        answer = Client(headers={"Host": "elsewhere.example"}).get("/api/v1/applications")
        assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")

    def test_an_upload_that_ends_early_keeps_nothing(self, app, administrator):
        path = "/api/v1/applications/demo/uploads?file_name=x.keras"
        announced = {"CONTENT_LENGTH": "8", "wsgi.input": io.BytesIO(b"half")}
        answer = administrator.client.post(path, b"half", content_type="application/octet-stream", **announced)
        assert (answer.status_code, answer.json()["code"]) == (400, "upload_incomplete")
        assert not app.uploads.exists()
