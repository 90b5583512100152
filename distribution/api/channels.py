"""REST for a channel's own rules: settings, requests for approval, promotion, floors, pins, test devices."""

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from distribution import approvals, delivery_rules, errors, services
from distribution.api.channel_serializers import (
    ChannelSettingsSerializer,
    EnrolmentRequest,
    EnrolmentSerializer,
    FloorsSerializer,
    InvitationSerializer,
    PinRequest,
    PinSerializer,
    PromoteRequest,
    ReleaseRequestChange,
    ReleaseRequestRequest,
    RequestedReleaseSerializer,
    SettingsRequest,
    TestDeviceRequest,
    TestDeviceSerializer,
)
from distribution.api.serializers import ReleasedSerializer
from distribution.invitations import enrolment_url, qr_svg
from distribution.models import DeliveryRules, ReleaseRequest, TestDevice
from registry.api.access import find_channel, find_model, find_version
from registry.api.base import NounView, Verb
from registry.errors import Invalid, NotFound
from registry.models import Channel, Role


class ChannelSettingsView(NounView):
    verbs = {
        "GET": Verb(summary="How many others must approve", role=Role.VIEWER, answer=ChannelSettingsSerializer),
        "PUT": Verb(
            summary="Ask for more or fewer approvals",
            role=Role.ADMINISTRATOR,
            body=SettingsRequest,
            answer=ChannelSettingsSerializer,
            conditional=True,
        ),
    }

    def get(self, request: Request, channel: str) -> Response:
        return self.shown(request, services.settings_of(find_channel(self.application, channel)))

    def put(self, request: Request, channel: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, services.settings_of(find_channel(self.application, channel))) as row:
            approvals.change_settings(settings=row, actor=self.actor(request), now=timezone.now(), **wanted)
            row.refresh_from_db()
        return self.shown(request, row)


class ReleaseRequestsView(NounView):
    verbs = {
        "GET": Verb(
            summary="Requests for approval or for a time, newest first",
            role=Role.VIEWER,
            answer=RequestedReleaseSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Ask for a release, or for a kill switch to be lifted",
            role=Role.RELEASER,
            body=ReleaseRequestRequest,
            answer=RequestedReleaseSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, channel: str) -> Response:
        rows = find_channel(self.application, channel).release_requests.select_related("channel", "model", "version")
        return self.page(request, rows, by="-id")

    def post(self, request: Request, channel: str) -> Response:
        wanted = self.body(request)
        found, model = find_channel(self.application, channel), find_model(self.application, wanted["model"])
        told = {
            "channel": found,
            "actor": self.actor(request),
            "now": timezone.now(),
            "reason": wanted["reason"],
        }
        if wanted["action"] == ReleaseRequest.Action.LIFT_KILL_SWITCH:
            return self.shown(request, approvals.request_lift(model=model, **told))
        if wanted["version"] is None:
            raise Invalid("expected the number of a version to publish, got none", field="version")
        version = find_version(model, wanted["version"])
        row = approvals.request_release(version=version, publish_at=wanted["publish_at"], **told)
        return self.shown(request, row)


class ReleaseRequestView(NounView):
    verbs = {
        "GET": Verb(summary="One request", role=Role.VIEWER, answer=RequestedReleaseSerializer),
        "PATCH": Verb(
            summary="Change what it asks for; its approvals are void",
            role=Role.RELEASER,
            body=ReleaseRequestChange,
            answer=RequestedReleaseSerializer,
            conditional=True,
        ),
        "DELETE": Verb(summary="Cancel it", role=Role.RELEASER, status=204, conditional=True),
    }

    def get(self, request: Request, channel: str, release_request: int) -> Response:
        return self.shown(request, find_request(find_channel(self.application, channel), release_request))

    def patch(self, request: Request, channel: str, release_request: int) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, find_request(find_channel(self.application, channel), release_request)) as row:
            number = wanted.pop("version", None)
            version = find_version(row.model, number) if number is not None else None
            told = {"publish_at": row.publish_at, **wanted}
            approvals.edit(request=row, version=version, actor=self.actor(request), now=timezone.now(), **told)
            row.refresh_from_db()
        return self.shown(request, row)

    def delete(self, request: Request, channel: str, release_request: int) -> Response:
        with self.unchanged(request, find_request(find_channel(self.application, channel), release_request)) as row:
            approvals.cancel(request=row, actor=self.actor(request), now=timezone.now())
        return Response(status=204)


class ApproveView(NounView):
    """If-Match names the state that the approver saw: nobody approves what was edited meanwhile."""

    verbs = {
        "POST": Verb(
            summary="Approve a request of somebody else; the last approval needed does it",
            role=Role.RELEASER,
            answer=RequestedReleaseSerializer,
            conditional=True,
        )
    }

    def post(self, request: Request, channel: str, release_request: int) -> Response:
        with self.unchanged(request, find_request(find_channel(self.application, channel), release_request)) as row:
            approvals.approve(request=row, actor=self.actor(request), now=timezone.now())
            row.refresh_from_db()
        return self.shown(request, row)


class PromoteView(NounView):
    verbs = {
        "POST": Verb(
            summary="Release here what another channel's devices have",
            role=Role.RELEASER,
            body=PromoteRequest,
            answer=ReleasedSerializer,
            status=201,
            idempotent=True,
        )
    }

    def post(self, request: Request, channel: str) -> Response:
        wanted = self.body(request)
        release = services.promote(
            channel=find_channel(self.application, channel),
            model=find_model(self.application, wanted["model"]),
            source=find_channel(self.application, wanted["from_channel"]),
            actor=self.actor(request),
            now=timezone.now(),
            reason=wanted["reason"],
        )
        return self.shown(request, release)


class FloorsView(NounView):
    verbs = {
        "GET": Verb(summary="Versions that may not be skipped", role=Role.VIEWER, answer=FloorsSerializer),
        "PUT": Verb(
            summary="Set the versions that may not be skipped",
            role=Role.RELEASER,
            body=FloorsSerializer,
            answer=FloorsSerializer,
            conditional=True,
        ),
    }

    def get(self, request: Request, channel: str, model: str) -> Response:
        return self.shown(request, self._rules(channel, model))

    def put(self, request: Request, channel: str, model: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, self._rules(channel, model)) as row:
            delivery_rules.set_floors(rules=row, floors=wanted["floors"], actor=self.actor(request), now=timezone.now())
            row.refresh_from_db()
        return self.shown(request, row)

    def _rules(self, channel: str, model: str) -> DeliveryRules:
        row, _ = DeliveryRules.objects.get_or_create(
            channel=find_channel(self.application, channel), model=find_model(self.application, model)
        )
        return row


class PinsView(NounView):
    verbs = {
        "GET": Verb(summary="Units that get a version by name", role=Role.VIEWER, answer=PinSerializer, many=True),
        "POST": Verb(
            summary="Give a unit or a test device one version",
            role=Role.RELEASER,
            body=PinRequest,
            answer=PinSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, channel: str, model: str) -> Response:
        found = find_channel(self.application, channel), find_model(self.application, model)
        return self.page(request, found[0].pins.filter(model=found[1]).select_related("version"), by="-id")

    def post(self, request: Request, channel: str, model: str) -> Response:
        wanted = self.body(request)
        found = find_channel(self.application, channel)
        key, label = self._unit(wanted)
        row = delivery_rules.pin(
            channel=found,
            version=find_version(find_model(self.application, model), wanted["version"]),
            key=key,
            label=wanted["label"] or label,
            actor=self.actor(request),
            now=timezone.now(),
        )
        return self.shown(request, row)

    def _unit(self, wanted: dict[str, Any]) -> tuple[str, str]:
        number = wanted["test_device"]
        device = None if number is None else find_test_device(self.application.channels.all(), number)
        return delivery_rules.key_of(self.application, unit=wanted["unit"], device=device)


class PinView(NounView):
    """A pin is never edited, so that removing it needs no If-Match."""

    verbs = {"DELETE": Verb(summary="Let the unit go with the others again", role=Role.RELEASER, status=204)}

    def delete(self, request: Request, channel: str, model: str, pin: int) -> Response:
        found = find_channel(self.application, channel)
        row = found.pins.filter(pk=pin, model__slug=model).first()
        if row is None:
            raise NotFound(f"expected the id of a pin of {model} on {found}, got {pin}", field="pin")
        delivery_rules.unpin(row=row, actor=self.actor(request), now=timezone.now())
        return Response(status=204)


class TestDevicesView(NounView):
    __test__ = False
    verbs = {
        "GET": Verb(
            summary="Devices known by name, and invitations", role=Role.VIEWER, answer=TestDeviceSerializer, many=True
        ),
        "POST": Verb(
            summary="Invite a device: a token and a QR code that work once",
            role=Role.RELEASER,
            body=TestDeviceRequest,
            answer=InvitationSerializer,
            status=201,
        ),
    }

    def get(self, request: Request, channel: str) -> Response:
        return self.page(request, find_channel(self.application, channel).test_devices.all(), by="-id")

    def post(self, request: Request, channel: str) -> Response:
        wanted = self.body(request)
        row, token = delivery_rules.invite_test_device(
            channel=find_channel(self.application, channel),
            name=wanted["name"],
            actor=self.actor(request),
            now=timezone.now(),
        )
        url = enrolment_url(request.build_absolute_uri("/"), token)
        told = {"id": row.pk, "name": row.name, "token": token, "url": url, "expires_at": row.expires_at}
        return self.shown(request, {**told, "qr_svg": qr_svg(url)})


class TestDeviceView(NounView):
    __test__ = False
    verbs = {
        "DELETE": Verb(summary="Forget a test device, and its pins", role=Role.RELEASER, status=204),
    }

    def delete(self, request: Request, channel: str, test_device: int) -> Response:
        found = find_channel(self.application, channel)
        row = find_test_device(self.application.channels.filter(pk=found.pk), test_device)
        delivery_rules.remove_test_device(row=row, actor=self.actor(request), now=timezone.now())
        return Response(status=204)


class EnrolmentsView(NounView):
    """Open to everybody: the token is what lets a device in, once."""

    authentication_classes = ()
    permission_classes = ()
    verbs = {
        "POST": Verb(
            summary="Enrol a device by the token of its invitation",
            body=EnrolmentRequest,
            answer=EnrolmentSerializer,
            status=201,
        )
    }

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        row = delivery_rules.enrol(token=wanted["token"], unit=wanted["unit"], now=timezone.now())
        told = {
            "application": row.channel.application.slug,
            "channel": row.channel.slug,
            "name": row.name,
            "device_url": str(settings.AEROGRAM_DEVICE_URL),
        }
        return self.shown(request, told)


def find_request(channel: Channel, pk: int) -> ReleaseRequest:
    rows = channel.release_requests.select_related("channel__application", "model", "version__model")
    row = rows.filter(pk=pk).first()
    if row is None:
        raise errors.ReleaseNotFound(f"expected the id of a release request on {channel}, got {pk}")
    return row


def find_test_device(channels: QuerySet[Channel], pk: int) -> TestDevice:
    row = TestDevice.objects.filter(channel__in=channels, pk=pk).select_related("channel__application").first()
    if row is None:
        raise NotFound(f"expected the id of a test device, got {pk}", field="test_device")
    return row
