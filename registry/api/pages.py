"""Lists in pages: a row's own key says where the next page begins, so that rows added meanwhile move nothing."""

from typing import Any

from django.db.models import Field, IntegerField, QuerySet
from rest_framework import serializers

from registry.errors import Invalid

USUAL_LIMIT, HIGHEST_LIMIT = 100, 500
LARGEST_KEY = 2**63 - 1


class PageQuery(serializers.Serializer[Any]):
    limit = serializers.IntegerField(
        min_value=1, max_value=HIGHEST_LIMIT, default=USUAL_LIMIT, help_text="How many, at most."
    )
    after = serializers.CharField(
        max_length=150, required=False, help_text="Only what comes after this key; the Link header gives it."
    )


def one_page(rows: QuerySet[Any], *, by: str, limit: int, after: str | None) -> tuple[list[Any], str | None]:
    """(the page, the key after which the next one begins or None). `by` is a unique column; `-by` falls."""
    column, falls = by.removeprefix("-"), by.startswith("-")
    if after is not None:
        rows = rows.filter(**{f"{column}__{'lt' if falls else 'gt'}": _key(rows, column, after)})
    found = list(rows.order_by(by)[: limit + 1])
    following = str(_value(found[limit - 1], column)) if len(found) > limit else None
    return found[:limit], following


def _key(rows: QuerySet[Any], column: str, after: str) -> int | str:
    field: Any = rows.model._meta.pk if column == "pk" else _field(rows, column)  # noqa: SLF001 Django's own name
    if not isinstance(field, IntegerField):
        return after
    if not after.isascii() or not after.isdigit() or int(after[:20]) > LARGEST_KEY:
        raise Invalid(f"expected the number that the Link header gave, got {after!r}", field="after")
    return int(after)


def _field(rows: QuerySet[Any], column: str) -> "Field[Any, Any]":
    model: Any = rows.model
    *relations, name = column.split("__")
    for relation in relations:
        model = model._meta.get_field(relation).related_model  # noqa: SLF001
    found: Field[Any, Any] = model._meta.get_field(name)  # noqa: SLF001
    return found


def _value(row: Any, column: str) -> Any:
    for name in column.split("__"):
        row = getattr(row, name)
    return row
