"""Device classes: one by one, their order, and which one a device would get."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from registry import services
from registry.api.access import find_device_class
from registry.api.base import NounView, Verb, entity_tag, require_match
from registry.api.serializers import (
    DeviceClassRequest,
    DeviceClassSerializer,
    MatchSerializer,
    OrderRequest,
    ProfileRequest,
)
from registry.device_classes import DeviceProfile, match, with_all_soc_names
from registry.models import Application, Role


class DeviceClassesView(NounView):
    """The ETag of the list is for changing its order."""

    verbs = {
        "GET": Verb(
            summary="The device classes in the order in which they are tried",
            role=Role.VIEWER,
            answer=DeviceClassSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Add a device class, at the end unless a position is given",
            role=Role.ADMINISTRATOR,
            body=DeviceClassRequest,
            answer=DeviceClassSerializer,
            status=201,
            idempotent=True,
        ),
        "PUT": Verb(
            summary="Try the device classes in another order",
            role=Role.ADMINISTRATOR,
            body=OrderRequest,
            answer=DeviceClassSerializer,
            many=True,
            conditional=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self._list(request)

    def post(self, request: Request) -> Response:
        wanted = self.body(request)
        last = self.application.device_classes.order_by("position").last()
        made = services.save_device_class(
            application=self.application,
            actor=self.actor(request),
            now=timezone.now(),
            **{"position": last.position + 1 if last else 0, **wanted},
        )
        return self.shown(request, made)

    def put(self, request: Request) -> Response:
        wanted = self.body(request)
        with self._unchanged_list(request):
            services.order_device_classes(
                application=self.application, names=wanted["order"], actor=self.actor(request), now=timezone.now()
            )
        return self._list(request)

    def _list(self, request: Request) -> Response:
        answer = self.page(request, self.application.device_classes.all(), by="position")
        answer["ETag"] = _list_tag(self.application)
        return answer

    @contextmanager
    def _unchanged_list(self, request: Request) -> Iterator[None]:
        with transaction.atomic():
            # Whoever adds or orders classes holds this lock; whoever changes or deletes one holds its row.
            Application.objects.select_for_update().get(pk=self.application.pk)
            list(self.application.device_classes.select_for_update())
            require_match(request, _list_tag(self.application))
            yield


class DeviceClassView(NounView):
    verbs = {
        "GET": Verb(summary="One device class", role=Role.VIEWER, answer=DeviceClassSerializer),
        "PUT": Verb(
            summary="Replace a device class",
            role=Role.ADMINISTRATOR,
            body=DeviceClassRequest,
            answer=DeviceClassSerializer,
            conditional=True,
        ),
        "DELETE": Verb(
            summary="Delete a device class; its devices fall through to the ones after it",
            role=Role.ADMINISTRATOR,
            status=204,
            conditional=True,
        ),
    }

    def get(self, request: Request, device_class: str) -> Response:
        return self.shown(request, find_device_class(self.application, device_class))

    def put(self, request: Request, device_class: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, find_device_class(self.application, device_class)) as row:
            services.save_device_class(
                application=self.application,
                device_class=row,
                actor=self.actor(request),
                now=timezone.now(),
                **{"position": row.position, **wanted},
            )
            row.refresh_from_db()
        return self.shown(request, row)

    def delete(self, request: Request, device_class: str) -> Response:
        with self.unchanged(request, find_device_class(self.application, device_class)) as row:
            services.delete_device_class(device_class=row, actor=self.actor(request), now=timezone.now())
        return Response(status=204)


class DeviceClassMatchView(NounView):
    verbs = {
        "POST": Verb(
            summary="Which device class a device would get, and why not an earlier one; changes nothing",
            role=Role.VIEWER,
            body=ProfileRequest,
            answer=MatchSerializer,
        )
    }

    def post(self, request: Request) -> Response:
        said = self.body(request)
        profile = DeviceProfile(**{**said, "accelerators": frozenset(said["accelerators"])})
        found, trace = match(
            profile, [with_all_soc_names(row.as_rule()) for row in self.application.device_classes.all()]
        )
        told = {
            "device_class": found.name if found else None,
            "variants": found.variants if found else [],
            "earlier": [{"device_class": name, "why_not": reason} for name, reason in trace],
        }
        return self.shown(request, told)


def _list_tag(application: Application) -> str:
    tags = " ".join(map(entity_tag, application.device_classes.order_by("position")))
    return f'"{hashlib.sha256(tags.encode()).hexdigest()[:32]}"'
