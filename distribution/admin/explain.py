"""The page that answers why a phone gets what it gets."""

from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from distribution.explaining import Explanation, explain
from registry.admin import access
from registry.admin.device_classes import DeviceProfileForm
from registry.models import Channel, RegisteredModel

Pair = tuple[Channel, RegisteredModel]


class ExplainForm(DeviceProfileForm):
    unit = forms.CharField(
        widget=UnfoldAdminTextInputWidget, max_length=128, required=False, help_text="the installation's id"
    )
    runs = forms.IntegerField(
        widget=UnfoldAdminTextInputWidget, min_value=1, required=False, help_text="the version it runs now"
    )

    def query_string(self, model: str) -> bytes:
        """The poll that such a device sends."""
        told = dict(self.cleaned_data)
        told.pop("unit")
        runs = told.pop("runs")
        if runs:
            told["current"] = f"{model}:{runs}"
        told["accelerators"] = told["accelerators"].replace(" ", "")
        return urlencode({name: value for name, value in told.items() if value not in ("", None)}).encode()


def pairs(request: HttpRequest) -> list[Pair]:
    """Every model on every channel that the user may see."""
    applications = access.applications(request)
    models = RegisteredModel.objects.filter(application__in=applications).select_related("application")
    channels = Channel.objects.filter(application__in=applications).select_related("application")
    return [(channel, model) for model in models for channel in channels if channel.application == model.application]


def chosen(request: HttpRequest, found: list[Pair]) -> Pair | None:
    wanted = request.GET.get("what", "")
    return next((pair for pair in found if f"{pair[0].pk}:{pair[1].pk}" == wanted), found[0] if found else None)


def told(pair: Pair, form: ExplainForm) -> Explanation:
    channel, model = pair
    return explain(channel, model.slug, form.query_string(model.slug), form.cleaned_data["unit"] or None)
