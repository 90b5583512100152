"""The audit log: of one application for its members, the whole of it for superusers."""

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.base import NounView, Verb
from registry.api.serializers import AuditEntrySerializer, AuditQuery
from registry.models import AuditEntry, Role

COLUMNS = {"verb": "verb", "actor": "actor", "subject": "subject", "since": "at__gte", "until": "at__lt"}


class AuditPages(NounView):
    """What both logs share."""

    def entries(self, request: Request, entries: QuerySet[AuditEntry]) -> Response:
        wanted = self.query(request)
        conditions = {COLUMNS[name]: value for name, value in wanted.items() if name in COLUMNS}
        return self.page(request, entries.filter(**conditions), by="-id")


class AuditLogView(AuditPages):
    verbs = {
        "GET": Verb(
            summary="Who did what here, newest first",
            role=Role.VIEWER,
            query=AuditQuery,
            answer=AuditEntrySerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        return self.entries(request, AuditEntry.objects.filter(application=self.application.slug))


class WholeAuditLogView(AuditPages):
    verbs = {
        "GET": Verb(
            summary="Who did what anywhere, newest first",
            superuser=True,
            query=AuditQuery,
            answer=AuditEntrySerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        return self.entries(request, AuditEntry.objects.all())
