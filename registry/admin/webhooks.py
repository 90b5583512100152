"""Who is told of events, and what was sent: for administrators of an application."""

from typing import Any, cast
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from registry.admin import access
from registry.admin.forms import ReasonForm
from registry.admin.shared import MemberAdmin, refusals_in, refusals_told, unchanged
from registry.errors import NotAllowed
from registry.models import Application, Role, Webhook, WebhookDelivery
from registry.models.applications import slug_validator
from registry.services import webhooks
from registry.templatetags.aerogram import state
from registry.webhooks.egress import MOST_URL_CHARACTERS
from registry.webhooks.messages import EVENT_TYPES

SHOWN_DELIVERIES = 50


class WebhookForm(forms.Form):
    url = forms.CharField(
        max_length=MOST_URL_CHARACTERS,
        label="URL",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://hooks.example.com/aerogram"}),
        help_text="https, and an address that the whole Internet reaches.",
    )
    event_types = forms.MultipleChoiceField(
        required=False,
        choices=[(name, f"{name}: {told}") for name, told in EVENT_TYPES.items()],
        widget=forms.CheckboxSelectMultiple,
        label="Events",
        help_text="None ticked: all of them.",
    )


class NewWebhookForm(WebhookForm):
    application = forms.ModelChoiceField(
        Application.objects.none(), widget=UnfoldAdminSelectWidget, empty_label=None, to_field_name="slug"
    )
    name = forms.CharField(
        max_length=63,
        validators=[slug_validator],
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "ops"}),
        help_text="By which people and scripts know it.",
    )
    field_order = ["application", "name", "url", "event_types"]


class DisableForm(ReasonForm):
    reason = forms.CharField(
        max_length=200, widget=UnfoldAdminTextInputWidget, help_text="Stands beside the webhook and in the audit log."
    )


@admin.register(Webhook)
class WebhookAdmin(MemberAdmin):
    list_display = ["name", "application", "host", "events", "how", "latest"]
    list_filter = ["application"]
    view_role = add_role = delete_role = Role.ADMINISTRATOR
    empty_words = (
        "No webhooks",
        "A webhook tells another system when a version is released, or when a rollout goes on, is held or halted.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Webhook]:
        return super().get_queryset(request).select_related("application")

    @admin.display(description="goes to", ordering="url")
    def host(self, row: Webhook) -> str:
        return urlsplit(row.url).netloc

    @admin.display
    def events(self, row: Webhook) -> str:
        return ", ".join(row.event_types) or "all"

    @admin.display(description="state")
    def how(self, row: Webhook) -> SafeString:
        return state("disabled" if row.disabled_reason else "told of events")

    @admin.display(description="last message")
    def latest(self, row: Webhook) -> SafeString | str:
        delivery = row.deliveries.first()
        return shown(delivery) if delivery else "–"

    def get_urls(self) -> list[URLPattern]:
        def page(name: str, view: Any) -> URLPattern:
            found: URLPattern = path(
                f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"registry_webhook_{name}"
            )
            return found

        own = [
            page("edit", self.edit_view),
            page("rotate", self.rotate_view),
            page("disable", self.disable_view),
            page("deliveries", self.deliveries_view),
        ]
        return [*own, *super().get_urls()]

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        allowed = access.applications(request, Role.ADMINISTRATOR)
        if not self.has_add_permission(request):
            raise NotAllowed("expected the role administrator in an application, got none")
        form = NewWebhookForm(request.POST or None, initial={"application": allowed.first()})
        form.fields["application"].queryset = allowed  # type: ignore[attr-defined]
        if request.method == "POST" and form.is_valid():
            with refusals_in(form):
                row, secret = webhooks.create_webhook(**form.cleaned_data, **_by(request))
                return self._secret(request, row, secret)
        return self._form(request, "Tell another system", form=form, button="Make the webhook")

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """The webhook with its deliveries; a POST says which of two things to `do`."""
        row: Webhook = self.find(request, object_id)
        if request.method == "POST":
            with refusals_told(request):
                self._act(request, row)
            return redirect("admin:registry_webhook_change", row.pk)
        return self.page(request, "registry/webhook.html", str(row), row=row, **_deliveries(row))

    def _act(self, request: HttpRequest, row: Webhook) -> None:
        if request.POST.get("do") == "enable":
            webhooks.change_webhook(webhook=row, url=row.url, event_types=row.event_types, **_by(request))
            messages.success(request, f"{row} is told of events again.")
        else:
            webhooks.send_test(webhook=row, **_by(request))
            messages.success(request, "A message is on its way.")

    def deliveries_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that changes by itself."""
        row = self.find(request, pk)
        return TemplateResponse(request, "registry/_webhook_deliveries.html", {"row": row, **_deliveries(row)})

    def edit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Webhook = self.find(request, pk)
        form = WebhookForm(request.POST or None, initial={"url": row.url, "event_types": row.event_types})
        if request.method == "POST" and form.is_valid():
            with refusals_in(form), unchanged(request, row) as fresh:
                webhooks.change_webhook(webhook=fresh, **form.cleaned_data, **_by(request))
                messages.success(request, f"{row} is told of events at {fresh.url}.")
                return redirect("admin:registry_webhook_change", row.pk)
        words = "Messages that wait go there too." + (" Saving enables it again." if row.disabled_reason else "")
        return self._form(request, f"Change {row}", row=row, form=form, words=words, button="Save")

    def rotate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Webhook = self.find(request, pk)
        if request.method == "POST":
            return self._secret(request, row, webhooks.rotate_secret(webhook=row, **_by(request)))
        words = "For a day messages carry a signature of the present secret too, so that no receiver misses one."
        return self._form(request, f"A new secret for {row}", row=row, words=words, button="Make a new secret")

    def disable_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Webhook = self.find(request, pk)
        form = DisableForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            with refusals_in(form):
                webhooks.disable_webhook(webhook=row, reason=form.cleaned_data["reason"], **_by(request))
                messages.success(request, f"{row} is told nothing until it is enabled.")
                return redirect("admin:registry_webhook_change", row.pk)
        words = "It is told nothing until it is enabled again; messages that wait are given up."
        return self._form(request, f"Disable {row}", row=row, form=form, words=words, button="Disable", danger=True)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        row: Webhook = self.find(request, object_id)
        if request.method == "POST":
            with refusals_told(request), unchanged(request, row) as fresh:
                webhooks.delete_webhook(webhook=fresh, **_by(request))
                messages.success(request, f"{row} is told nothing any more.")
                return redirect("admin:registry_webhook_changelist")
            return redirect("admin:registry_webhook_change", row.pk)
        words = "It is told nothing any more, and what was sent to it is forgotten."
        return self._form(request, f"Delete {row}", row=row, words=words, button="Delete", danger=True)

    def _form(self, request: HttpRequest, title: str, *, row: Webhook | None = None, **context: Any) -> HttpResponse:
        back = reverse("admin:registry_webhook_changelist")
        if row is not None:
            back = reverse("admin:registry_webhook_change", args=[row.pk])
        return self.page(request, "registry/guided.html", title, row=row, back=back, **context)

    def _secret(self, request: HttpRequest, row: Webhook, secret: str) -> HttpResponse:
        """Not behind a redirect: it is shown this once. No admin page is ever cached."""
        return self.page(request, "registry/webhook_secret.html", f"The secret of {row}", row=row, secret=secret)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(MemberAdmin):
    list_display = ["event_type", "webhook", "how", "attempts", "answer_status", "created_at"]
    list_filter = ["webhook", "state", "event_type"]
    application_path = "webhook__application"
    view_role = Role.ADMINISTRATOR
    empty_words = ("Nothing was sent yet", "Messages to webhooks stand here for 30 days, with what was answered.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        return super().get_queryset(request).select_related("webhook__application")

    @admin.display(description="state", ordering="state")
    def how(self, row: WebhookDelivery) -> SafeString:
        return shown(row)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row: WebhookDelivery = self.find(request, object_id)
        if request.method == "POST":
            with refusals_told(request):
                webhooks.redeliver(delivery=row, **_by(request))
                messages.success(request, "The same message is on its way again.")
            return redirect("admin:registry_webhook_change", row.webhook_id)
        headers = "\n".join(f"{name}: {value}" for name, value in webhooks.headers_sent(row).items())
        context: dict[str, Any] = {
            "row": row,
            "how": shown(row),
            "headers": headers,
            "is_tried_again": _is_tried_again(row),
        }
        return self.page(request, "registry/webhook_delivery.html", f"{row.event_type} to {row.webhook}", **context)


def shown(row: WebhookDelivery) -> SafeString:
    if row.state != WebhookDelivery.State.WAITING:
        return state(row.state)
    return state("to be tried again" if _is_tried_again(row) else "on its way")


def _is_tried_again(row: WebhookDelivery) -> bool:
    return bool(row.state == WebhookDelivery.State.WAITING and row.attempts)


def _deliveries(webhook: Webhook) -> dict[str, Any]:
    rows = list(webhook.deliveries.all()[: SHOWN_DELIVERIES + 1])
    told = [{"row": row, "how": shown(row), "is_tried_again": _is_tried_again(row)} for row in rows[:SHOWN_DELIVERIES]]
    is_open = any(row.state == WebhookDelivery.State.WAITING for row in rows)
    return {"deliveries": told, "has_more": len(rows) > SHOWN_DELIVERIES, "every_seconds": 2 if is_open else 15}


def _by(request: HttpRequest) -> dict[str, Any]:
    return {"actor": cast("Any", request.user).get_username(), "now": timezone.now()}
