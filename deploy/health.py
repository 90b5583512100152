"""Whether the control plane works: one answer for phones, and one for whoever runs it."""

from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from distribution.trust.status import trust_status
from registry.models import Application


def alive(_request: HttpRequest) -> JsonResponse:
    """200 while the database answers, and no word of what is in it: phones can ask this one."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return JsonResponse({"status": "unavailable"}, status=503)
    return JsonResponse({"status": "ok"})


def healthz(_request: HttpRequest) -> JsonResponse:
    """200 while the control plane can do its work, 503 with the part that is away otherwise."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        return JsonResponse({"status": "unavailable", "database": str(error).strip()}, status=503)
    return JsonResponse({"status": "ok", "trust_expires_in_days": _days_left()})


def _days_left() -> dict[str, dict[str, float]]:
    """By application and role. It is told and not judged: restarting a server renews no signature."""
    now = timezone.now()
    found = {application.slug: trust_status(application, now) for application in Application.objects.all()}
    return {slug: {role.role: role.days_left for role in status.roles} for slug, status in found.items()}
