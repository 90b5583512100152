"""Applications, who may touch them, and their channels."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from registry import errors, services
from registry.api import access
from registry.api.base import NounView, Verb
from registry.api.serializers import (
    ApplicationRequest,
    ApplicationSerializer,
    ChannelRequest,
    ChannelSerializer,
    MembershipRequest,
    MembershipSerializer,
    NameRequest,
    RoleRequest,
)
from registry.models import Application, Membership, Role


class ApplicationsView(NounView):
    verbs = {
        "GET": Verb(summary="The applications that the caller is a member of", answer=ApplicationSerializer, many=True),
        "POST": Verb(
            summary="Make an application with the channel production and device classes to start from",
            superuser=True,
            body=ApplicationRequest,
            answer=ApplicationSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        token = access.token_of(request)
        applications = Application.objects.prefetch_related("channels")
        if not request.user.is_superuser:
            applications = applications.filter(memberships__user_id=request.user.pk or 0)
        if token.application_id is not None:
            applications = applications.filter(pk=token.application_id)
        return self.page(request, applications, by="slug")

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        made = services.create_application(
            slug=wanted["slug"], name=wanted["name"], actor=self.actor(request), now=timezone.now()
        )
        return self.shown(request, made)


class ApplicationView(NounView):
    verbs = {
        "GET": Verb(summary="One application", role=Role.VIEWER, answer=ApplicationSerializer),
        "PATCH": Verb(
            summary="Change the name that people read",
            role=Role.ADMINISTRATOR,
            body=NameRequest,
            answer=ApplicationSerializer,
            conditional=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.shown(request, self.application)

    def patch(self, request: Request) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, self.application) as row:
            services.rename_application(
                application=row, name=wanted["name"], actor=self.actor(request), now=timezone.now()
            )
            row.refresh_from_db()
        return self.shown(request, row)


class MembershipsView(NounView):
    verbs = {
        "GET": Verb(summary="Who has which role here", role=Role.VIEWER, answer=MembershipSerializer, many=True),
        "POST": Verb(
            summary="Give a user a role here",
            role=Role.ADMINISTRATOR,
            body=MembershipRequest,
            answer=MembershipSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.page(request, self.application.memberships.select_related("user"), by="user__username")

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        user = access.find_user(wanted["user"])
        if self.application.memberships.filter(user=user).exists():
            raise errors.AlreadyMember(f"expected a user without a role in {self.application}, got {user}")
        made = services.grant(
            application=self.application, user=user, role=wanted["role"], actor=self.actor(request), now=timezone.now()
        )
        return self.shown(request, made)


class MembershipView(NounView):
    verbs = {
        "GET": Verb(summary="One user's role", role=Role.VIEWER, answer=MembershipSerializer),
        "PUT": Verb(
            summary="Give a member another role",
            role=Role.ADMINISTRATOR,
            body=RoleRequest,
            answer=MembershipSerializer,
            conditional=True,
        ),
        "DELETE": Verb(summary="Take the role away", role=Role.ADMINISTRATOR, status=204, conditional=True),
    }

    def get(self, request: Request, user: str) -> Response:
        return self.shown(request, self._found(user))

    def put(self, request: Request, user: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, self._found(user)) as row:
            services.grant(
                application=self.application,
                user=row.user,
                role=wanted["role"],
                actor=self.actor(request),
                now=timezone.now(),
            )
            row.refresh_from_db()
        return self.shown(request, row)

    def delete(self, request: Request, user: str) -> Response:
        with self.unchanged(request, self._found(user)) as row:
            services.revoke(membership=row, actor=self.actor(request), now=timezone.now())
        return Response(status=204)

    def _found(self, user: str) -> Membership:
        row = self.application.memberships.select_related("user").filter(user__username=user).first()
        if row is None:
            raise errors.NotFound(f"expected a member of {self.application}, got {user!r}", field="user")
        return row


class ChannelsView(NounView):
    verbs = {
        "GET": Verb(summary="The application's channels", role=Role.VIEWER, answer=ChannelSerializer, many=True),
        "POST": Verb(
            summary="Make a channel",
            role=Role.ADMINISTRATOR,
            body=ChannelRequest,
            answer=ChannelSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.page(request, self.application.channels.all(), by="slug")

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        made = services.create_channel(
            application=self.application, slug=wanted["slug"], actor=self.actor(request), now=timezone.now()
        )
        return self.shown(request, made)


class ChannelView(NounView):
    verbs = {"GET": Verb(summary="One channel", role=Role.VIEWER, answer=ChannelSerializer)}

    def get(self, request: Request, channel: str) -> Response:
        return self.shown(request, access.find_channel(self.application, channel))
