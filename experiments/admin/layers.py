"""The 10 000 buckets of a layer as a map: which experiment has which, and what is free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from experiments import services
from experiments.bucketing import BUCKETS
from experiments.lifecycle import LIVE
from experiments.models import Experiment, Layer
from experiments.words import percent, state
from registry.admin.shared import MemberAdmin

TONES = 6  # colours of the map, one experiment after another


@dataclass(frozen=True)
class Part:
    """A half-open range of buckets; free where no `experiment` holds it."""

    first: int
    end: int
    experiment: Experiment | None = None
    tone: int = 0

    @property
    def size(self) -> int:
        return self.end - self.first

    @property
    def how(self) -> str:
        return state(self.experiment.state) if self.experiment else "–"

    @property
    def share(self) -> str:
        return percent(self.size)


@admin.register(Layer)
class LayerAdmin(MemberAdmin):
    list_display = ["name", "model", "channel", "held"]
    list_display_links = ["name"]
    list_filter = ["channel__application", "channel"]
    application_path = "channel__application"
    empty_words = (
        "No layer yet",
        "The first experiment of a model makes one. Live experiments of the same layer share no device.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Layer]:
        rows = super().get_queryset(request).select_related("model", "channel__application")
        found: QuerySet[Layer] = rows.prefetch_related("allocations")
        return found

    @admin.display(description="layer", ordering="slug")
    def name(self, row: Layer) -> str:
        return str(row.slug)

    @admin.display(description="buckets in use")
    def held(self, row: Layer) -> str:
        live = [each for each in row.allocations.all() if each.released_at is None]
        return percent(sum(each.end_bucket - each.first_bucket for each in live))

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row: Layer = self.find(request, object_id)
        parts = list(_parts(row))
        waiting = row.experiments.exclude(state__in=LIVE).filter(ended_at=None).order_by("layer_first", "pk")
        told = [(each, state(each.state)) for each in waiting]
        return self.page(
            request, "experiments/layer.html", str(row), layer=row, parts=parts, waiting=told, ticks=_ticks()
        )


def _parts(row: Layer) -> Iterator[Part]:
    """All buckets, in order, as the service behind the REST map tells them."""
    told = services.layer_map(row)
    named = {each.slug: each for each in row.channel.application.experiments.all()}
    held = [
        Part(each["range"][0], each["range"][1], named[each["experiment"]], 1 + index % TONES)
        for index, each in enumerate(sorted(told["held"], key=lambda each: each["range"]))
    ]
    yield from sorted([*held, *(Part(first, end) for first, end in told["free"])], key=lambda part: part.first)


def _ticks() -> list[int]:
    return list(range(0, BUCKETS + 1, 2000))
