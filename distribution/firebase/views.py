"""The admin API of Firebase ML, v1beta2, as firebase-admin calls it."""

from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from distribution.firebase import requests, services, shown, storage, wire
from distribution.firebase.answers import GoogleView
from distribution.firebase.errors import FirebaseInvalid, FirebaseModelNotFound
from distribution.firebase.filters import Filter, FilterError
from distribution.models import FirebaseModel, FirebaseOperation
from registry.api import access
from registry.api.base import Verb
from registry.models import Role


class ModelsView(GoogleView):
    verbs = {
        "GET": Verb(summary="Models, filtered, in pages", role=Role.VIEWER),
        "POST": Verb(summary="Make a model", role=Role.EDITOR),
    }

    def get(self, request: Request) -> Response:
        query = request.query_params.dict()
        size, after = requests.page(query)
        found = self._matching(query.get("filter", ""), after)[: size + 1]
        document: dict[str, Any] = {"models": [shown.model(row) for row in found[:size]]}
        if len(found) > size:
            document["nextPageToken"] = str(found[size - 1].pk)
        return Response(document)

    def post(self, request: Request) -> Response:
        body = requests.document(request.data)
        uri = requests.gcs_uri(body)
        model = services.create_model(
            application=self.application,
            display_name=requests.display_name(body),
            tags=requests.tags(body),
            source=storage.find_source(self.application, uri) if uri else None,
            actor=self.actor(request),
            now=timezone.now(),
        )
        return Response(shown.done(model))

    def _matching(self, text: str, after: int) -> list[FirebaseModel]:
        try:
            wanted = Filter.parse(text)
        except FilterError as error:
            raise FirebaseInvalid(str(error), field="filter") from error
        rows = self.application.firebase_models.filter(pk__gt=after).select_related("application", "version__source")
        return [row for row in rows if wanted.holds(row.display_name, row.tags, published=row.published)]


class ModelView(GoogleView):
    verbs = {
        "GET": Verb(summary="One model", role=Role.VIEWER),
        "PATCH": Verb(summary="Change what the mask names", role=Role.EDITOR),
        "DELETE": Verb(summary="Forget a model and take it from devices", role=Role.RELEASER),
    }

    def get(self, request: Request, model: str) -> Response:  # noqa: ARG002
        return Response(shown.model(self._found(model)))

    def patch(self, request: Request, model: str) -> Response:
        row = self._found(model, named=True)
        changes = self._changes(request)
        if changes.published is not None or (row.published and changes != services.Changes(tags=changes.tags)):
            # What devices get changes: that takes the role that a release takes.
            access.find_application(request, self.application.slug, Role.RELEASER)
        operation = services.update_model(model=row, changes=changes, actor=self.actor(request), now=timezone.now())
        row = self._found(model, named=True)
        if operation is None or (operation.done_at and not operation.error):
            return Response(shown.done(row))
        return Response(shown.operation(operation))

    def delete(self, request: Request, model: str) -> Response:
        services.delete_model(model=self._found(model), actor=self.actor(request), now=timezone.now())
        return Response({})

    def _changes(self, request: Request) -> services.Changes:
        body = requests.document(request.data)
        names = requests.wanted(request.query_params.dict(), body)
        uri = requests.gcs_uri(body) if "file" in names else None
        return services.Changes(
            display_name=requests.display_name(body) if "display_name" in names else None,
            tags=requests.tags(body) if "tags" in names else None,
            source=storage.find_source(self.application, uri) if uri else None,
            published=requests.published(body) if "published" in names else None,
        )

    def _found(self, model_id: str, *, named: bool = False) -> FirebaseModel:
        """`named`: Google's words for a change of what is not there differ from those for a look at it."""
        row = self.application.firebase_models.filter(model_id=model_id).first()
        if row is None:
            name = f"projects/{self.application.slug}/models/{model_id[:80]}"
            raise FirebaseModelNotFound(f"Model '{name}' was not found" if named else wire.NOT_FOUND)
        if row.operations.filter(done_at__isnull=True).exists():
            services.settle(model=row, now=timezone.now())
            row.refresh_from_db()
        return row


class OperationView(GoogleView):
    verbs = {"GET": Verb(summary="One operation", role=Role.VIEWER)}

    def get(self, request: Request, operation: int) -> Response:  # noqa: ARG002
        rows = FirebaseOperation.objects.filter(model__application=self.application, pk=operation)
        row = rows.select_related("model__application").first()
        if row is None:
            raise FirebaseModelNotFound(wire.NOT_FOUND)
        services.settle(model=row.model, now=timezone.now())
        return Response(shown.operation(rows.select_related("model__application").get()))
