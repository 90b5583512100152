"""What the admin's pages share."""

from typing import Any, TypeVar

from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

M = TypeVar("M", bound=Model)


class ShownOnly:
    """No button that would write past the services."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False


class ShownAdmin(ShownOnly, ModelAdmin):  # type: ignore[misc]
    pass


class ShownInline(ShownOnly, TabularInline):  # type: ignore[misc]
    extra = 0
