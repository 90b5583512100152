"""Approval by others, schedules, promotion, floors, pins and test devices: rows, catalog and what phones are told."""

import json
from datetime import timedelta

import pytest
from django.test import Client

from distribution import approvals, delivery_rules, errors, explaining, publishing, services
from distribution.models import ChannelSettings, DeliveryRules, Release, ReleaseRequest
from registry.errors import Invalid
from registry.models import AuditEntry, Role
from registry.services import create_channel, grant, yank_version
from tests import factories
from tests.distribution.test_explaining import Published
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
LATER = NOW + timedelta(hours=3)
PHONE = b"os=android&runtime=litert&runtime_version=2.1"
State = ReleaseRequest.State


@pytest.fixture
def published(services, own_store, tmp_path):
    """Version 1 of digits is live on production; version 2 is converted."""
    made = Published(tmp_path / "publisher", own_store)
    made.second = factories.converted_version(made.application)
    return made


@pytest.fixture
def channel(published):
    return published.channel


def require_approvals(channel, releases=1, lifts=1):
    row = services.settings_of(channel)
    approvals.change_settings(
        settings=row, approvals_required=releases, lift_approvals_required=lifts, actor="root", now=NOW
    )


def ask(published, **changes):
    told = {"channel": published.channel, "version": published.second, "actor": "ada", "now": NOW, "reason": "better"}
    return approvals.request_release(**{**told, **changes})


def polled(published, unit="a", current=b""):
    query = PHONE + (b"&current=digits:" + current if current else b"")
    return explaining.explain(published.channel, "digits", query, unit).decision


class TestApproval:
    def test_a_channel_that_asks_for_approval_takes_no_release_without(self, published, channel):
        require_approvals(channel)
        with pytest.raises(errors.ApprovalRequired):
            services.publish(channel=channel, version=published.second, actor="ada", now=NOW)
        with pytest.raises(errors.ApprovalRequired):
            services.promote(channel=channel, model=published.model, source=channel, actor="ada", now=NOW)

    def test_the_author_cannot_approve_and_another_does_it(self, published, channel):
        require_approvals(channel)
        request = ask(published)
        assert (request.state, Release.objects.count()) == (State.WAITING, 1)
        with pytest.raises(errors.OwnRequest, match="somebody else than ada"):
            approvals.approve(request=request, actor="ada", now=NOW)
        approvals.approve(request=request, actor="bob", now=NOW)
        request.refresh_from_db()
        assert (request.state, request.release.model_version) == (State.DONE, published.second)
        assert request.release.released_by == "ada"
        with pytest.raises(errors.RequestClosed):
            approvals.approve(request=request, actor="cyd", now=NOW)

    def test_each_counts_once(self, published, channel):
        require_approvals(channel, releases=2)
        request = ask(published)
        approvals.approve(request=request, actor="bob", now=NOW)
        with pytest.raises(errors.AlreadyApproved):
            approvals.approve(request=request, actor="bob", now=NOW)
        assert Release.objects.count() == 1
        approvals.approve(request=request, actor="cyd", now=NOW)
        assert Release.objects.count() == 2

    def test_an_edit_voids_it_and_the_editor_is_an_author(self, published, channel):
        require_approvals(channel, releases=2)
        request = ask(published)
        approvals.approve(request=request, actor="bob", now=NOW)
        approvals.edit(request=request, actor="cyd", now=NOW, reason="much better")
        assert (request.approvers(), request.edition) == ([], 2)
        with pytest.raises(errors.OwnRequest):
            approvals.approve(request=request, actor="cyd", now=NOW)
        approvals.approve(request=request, actor="bob", now=NOW)
        assert request.approvers() == ["bob"]

    def test_who_edited_it_before_another_did_is_an_author_still(self, published, channel):
        require_approvals(channel)
        request = ask(published)
        approvals.edit(request=request, actor="cyd", now=NOW, reason="much better")
        approvals.edit(request=request, actor="ada", now=NOW, reason="better")
        with pytest.raises(errors.OwnRequest, match="ada, cyd"):
            approvals.approve(request=request, actor="cyd", now=NOW)
        assert (request.edited_by, request.editors) == ("ada", ["ada", "cyd"])

    def test_what_cannot_be_released_is_refused_when_asked_and_when_approved(self, published, channel):
        require_approvals(channel)
        request = ask(published)
        yank_version(version=published.second, actor="ada", now=NOW, reason="bad")
        with pytest.raises(errors.Conflict):
            approvals.approve(request=request, actor="bob", now=NOW)
        request.refresh_from_db()
        assert (request.state, request.approvers()) == (State.WAITING, [])

    def test_a_rollback_and_a_stop_need_nobody_else(self, published, channel):
        services.publish(channel=channel, version=published.second, actor="ada", now=NOW)
        published.run()
        require_approvals(channel)
        services.roll_back(channel=channel, model=published.model, actor="ada", now=NOW)
        services.engage_kill_switch(channel=channel, model=published.model, actor="ada", now=NOW, reason="x")

    def test_lifting_needs_another_person_from_the_start(self, published, channel):
        told = {"channel": channel, "model": published.model, "actor": "ada", "now": NOW, "reason": "mended"}
        services.engage_kill_switch(**told)
        with pytest.raises(errors.ApprovalRequired):
            services.lift_kill_switch(**told)
        request = approvals.request_lift(**told)
        assert channel.kill_switches.filter(lifted_at__isnull=True).exists()
        approvals.approve(request=request, actor="bob", now=NOW)
        assert not channel.kill_switches.filter(lifted_at__isnull=True).exists()
        told = {entry.verb: (entry.before, entry.after) for entry in AuditEntry.objects.filter(verb__endswith="switch")}
        released = {"kill_switch": "lifted", "served": 1}
        stopped = {"kill_switch": "engaged", "served": "use_embedded"}
        assert told == {"engage_kill_switch": (released, stopped), "lift_kill_switch": (stopped, released)}

    def test_settings_are_bounded(self, channel):
        with pytest.raises(Invalid):
            require_approvals(channel, releases=6)


class TestSchedule:
    def test_it_is_done_when_its_time_has_come(self, published, channel):
        request = ask(published, publish_at=LATER)
        assert (request.state, Release.objects.count()) == (State.SCHEDULED, 1)
        assert approvals.perform_due(LATER - timedelta(seconds=1)) == 0
        assert approvals.perform_due(LATER) == 1
        request.refresh_from_db()
        assert (request.state, request.release.released_at) == (State.DONE, LATER)
        assert approvals.perform_due(LATER) == 0

    def test_approval_comes_before_its_time(self, published, channel):
        require_approvals(channel)
        request = ask(published, publish_at=LATER)
        assert approvals.perform_due(LATER) == 0
        approvals.approve(request=request, actor="bob", now=NOW)
        request.refresh_from_db()
        assert request.state == State.SCHEDULED
        require_approvals(channel, releases=2)
        approvals.perform_due(LATER)
        request.refresh_from_db()
        assert request.state == State.WAITING

    def test_what_fails_at_its_time_says_why(self, published, channel):
        request = ask(published, publish_at=LATER)
        yank_version(version=published.second, actor="ada", now=NOW, reason="bad")
        approvals.perform_due(LATER)
        request.refresh_from_db()
        assert (request.state, "version_yanked" in request.outcome) == (State.FAILED, True)

    def test_it_is_cancelled(self, published, channel):
        request = ask(published, publish_at=LATER)
        approvals.cancel(request=request, actor="ada", now=NOW)
        assert approvals.perform_due(LATER) == 0
        with pytest.raises(errors.RequestClosed):
            approvals.edit(request=request, actor="ada", now=NOW)
        with pytest.raises(Invalid):
            ask(published, publish_at=NOW)


class TestDelivery:
    @pytest.fixture
    def third(self, published):
        """Versions 1, 2 and 3 were live, one after the other."""
        third = factories.converted_version(published.application)
        for version in (published.second, third):
            services.publish(channel=published.channel, version=version, actor="ada", now=NOW)
            published.run()
        return third

    def rules(self, published):
        return DeliveryRules.objects.get_or_create(channel=published.channel, model=published.model)[0]

    def test_a_floor_is_served_before_what_is_current(self, published, third):
        delivery_rules.set_floors(rules=self.rules(published), floors=[2], actor="ada", now=NOW)
        published.run()
        assert (polled(published, current=b"1").reason, polled(published, current=b"1").version) == ("floor", 2)
        assert (polled(published, current=b"2").version, polled(published).version) == (3, 3)
        with pytest.raises(Invalid, match=r"1, 2, 3"):
            delivery_rules.set_floors(rules=self.rules(published), floors=[9], actor="ada", now=NOW)
        yank_version(version=published.second, actor="ada", now=NOW, reason="bad")
        published.run()
        assert polled(published, current=b"1").version == 3

    def test_a_pin_gives_one_unit_one_version(self, published, third):
        key = delivery_rules.unit_key(published.application, "a")
        told = {"channel": published.channel, "key": key, "label": "Ada", "actor": "ada", "now": NOW}
        row = delivery_rules.pin(version=published.second, **told)
        published.run()
        assert (polled(published).reason, polled(published).version) == ("override", 2)
        assert polled(published, "b").version == 3
        with pytest.raises(errors.AlreadyPinned):
            delivery_rules.pin(version=third, **told)
        with pytest.raises(errors.NotReleased):
            delivery_rules.pin(version=factories.converted_version(published.application), **told)
        delivery_rules.unpin(row=row, actor="ada", now=NOW)
        published.run()
        assert polled(published).version == 3

    def test_promoting_releases_what_the_other_channel_has(self, published):
        preview = create_channel(application=published.application, slug="preview", actor="ada", now=NOW)
        services.publish(channel=preview, version=published.second, actor="ada", now=NOW)
        published.run()
        told = {"channel": published.channel, "model": published.model, "actor": "ada", "now": NOW}
        assert services.promote(source=preview, **told).model_version == published.second
        empty = create_channel(application=published.application, slug="empty", actor="ada", now=NOW)
        with pytest.raises(errors.NotReleased):
            services.promote(source=empty, **told)

    def test_a_rollback_rises_in_every_number_but_the_versions(self, published, third):
        def signed():
            entry = explaining.published_catalog(published.channel)[1].models["digits"]
            return entry.current, entry.manifest_version

        before = signed()
        services.roll_back(channel=published.channel, model=published.model, actor="ada", now=NOW)
        publishing.publish_application(published.application, clock=lambda: NOW)
        assert (before, signed()) == ((3, 3), (2, 4))
        assert Release.objects.first().pk > Release.objects.get(model_version=third).pk

    def test_without_the_publishers_key_stopping_going_back_and_pinning_still_work(self, published, third, tmp_path):
        """The online half alone publishes all of it; the signer never runs."""
        online = lambda: publishing.publish_application(published.application, clock=lambda: NOW)  # noqa: E731
        (tmp_path / "publisher").rename(tmp_path / "away")
        told = {"channel": published.channel, "model": published.model, "actor": "ada", "now": NOW, "reason": "x"}
        services.engage_kill_switch(**told)
        online()
        assert polled(published).reason == "kill_switch"
        services.lift_approved(**told)
        services.roll_back(**told)
        online()
        assert polled(published).version == 2
        key = delivery_rules.unit_key(published.application, "a")
        delivery_rules.pin(channel=published.channel, version=third, key=key, label="", actor="ada", now=NOW)
        online()
        assert (polled(published).version, polled(published, "b").version) == (3, 2)


class TestRest:
    BASE = "/api/v1/applications/demo/channels/production"

    @pytest.fixture
    def people(self, published):
        def client(name, role):
            user = factories.user(name)
            grant(application=published.application, user=user, role=role, actor="tests", now=NOW)
            return Client(headers={"Authorization": f"Bearer {factories.token(user)}"})

        return {name: client(name, Role.ADMINISTRATOR) for name in ("ada", "bob")}

    def send(self, client, method, path, body=None, **headers):
        return client.generic(
            method,
            f"{self.BASE}/{path}" if not path.startswith("/") else path,
            json.dumps(body) if body else "",
            content_type="application/json",
            headers=headers,
        )

    def test_a_request_from_asking_to_release(self, published, people):
        tag = self.send(people["ada"], "GET", "settings")["ETag"]
        wanted = {"approvals_required": 1, "lift_approvals_required": 1}
        assert self.send(people["ada"], "PUT", "settings", wanted).status_code == 428
        assert self.send(people["ada"], "PUT", "settings", wanted, **{"If-Match": tag}).status_code == 200
        assert self.send(people["ada"], "PUT", "settings", wanted, **{"If-Match": tag}).status_code == 412
        refused = self.send(people["ada"], "POST", "releases", {"model": "digits", "version": 2})
        assert (refused.status_code, refused.json()["code"]) == (409, "approval_required")
        made = self.send(people["ada"], "POST", "release-requests", {"model": "digits", "version": 2})
        assert (made.status_code, made.json()["state"]) == (201, "waiting"), made.content
        path = f"release-requests/{made.json()['id']}"
        seen = self.send(people["bob"], "GET", path)["ETag"]
        edited = self.send(people["ada"], "PATCH", path, {"reason": "sneaky"}, **{"If-Match": seen})
        assert edited.json()["edition"] == 2
        late = self.send(people["bob"], "POST", f"{path}/approve", **{"If-Match": seen})
        assert late.status_code == 412
        own = self.send(people["ada"], "POST", f"{path}/approve", **{"If-Match": edited["ETag"]})
        assert (own.status_code, own.json()["code"]) == (403, "own_request")
        done = self.send(people["bob"], "POST", f"{path}/approve", **{"If-Match": edited["ETag"]})
        assert (done.status_code, done.json()["state"], done.json()["approved_by"]) == (200, "done", ["bob"])
        assert Release.objects.first().model_version == published.second

    def test_a_test_device_enrols_once_and_is_pinned(self, published, people):
        invited = self.send(people["ada"], "POST", "test-devices", {"name": "Ada's phone"}).json()
        assert invited["url"].endswith(f"/api/v1/enrolments#{invited['token']}")
        assert invited["qr_svg"].startswith("<svg")
        enrolment = {"token": invited["token"], "unit": "unit-of-ada"}
        answer = self.send(Client(), "POST", "/api/v1/enrolments", enrolment)
        assert (answer.status_code, answer.json()["channel"]) == (201, "production"), answer.content
        again = self.send(Client(), "POST", "/api/v1/enrolments", enrolment)
        assert (again.status_code, again.json()["code"]) == (400, "enrolment_refused")
        shown = self.send(people["bob"], "GET", "test-devices")
        assert "unit-of-ada" not in shown.content.decode()
        assert invited["token"] not in shown.content.decode()
        pins = "models/digits/pins"
        pinned = self.send(people["ada"], "POST", pins, {"version": 1, "test_device": invited["id"]})
        assert (pinned.status_code, pinned.json()["label"]) == (201, "Ada's phone"), pinned.content
        published.run()
        assert polled(published, "unit-of-ada").reason == "override"
        assert self.send(people["ada"], "DELETE", f"test-devices/{invited['id']}").status_code == 204
        published.run()
        assert polled(published, "unit-of-ada").reason == "current_release"

    def test_an_invitation_ends_after_a_day(self, published):
        _, token = delivery_rules.invite_test_device(channel=published.channel, name="x", actor="ada", now=NOW)
        with pytest.raises(errors.EnrolmentRefused):
            delivery_rules.enrol(token=token, unit="u", now=NOW + timedelta(hours=24))
        assert delivery_rules.enrol(token=token, unit="u", now=NOW + timedelta(hours=23)).enrolled_at

    def test_floors_need_the_state_that_was_seen(self, published, people):
        seen = self.send(people["ada"], "GET", "models/digits/floors")
        assert seen.json() == {"floors": []}
        assert self.send(people["ada"], "PUT", "models/digits/floors", {"floors": [1]}).status_code == 428
        tag = {"If-Match": seen["ETag"]}
        assert self.send(people["ada"], "PUT", "models/digits/floors", {"floors": [1]}, **tag).json() == {"floors": [1]}
        assert self.send(people["ada"], "PUT", "models/digits/floors", {"floors": []}, **tag).status_code == 412


def test_settings_have_defaults(channel):
    assert (ChannelSettings().approvals_required, ChannelSettings().lift_approvals_required) == (0, 1)
