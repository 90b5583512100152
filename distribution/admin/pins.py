"""Devices known by name, and units that get one version whatever is released."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from distribution import delivery_rules
from distribution.admin.choosing import Choice, choose_what_to_stop, release_channels
from distribution.invitations import enrolment_url, qr_svg
from distribution.models import Pin, Release, TestDevice
from registry.admin.shared import MemberAdmin, refusals_in
from registry.models import Channel, ModelVersion, Role
from registry.services import require_role
from registry.templatetags.aerogram import state


class PinForm(forms.Form):
    version = forms.ModelChoiceField(
        ModelVersion.objects.none(),
        widget=UnfoldAdminSelectWidget,
        help_text="One that was released to some channel: the publisher has signed its files.",
    )
    test_device = forms.ModelChoiceField(
        TestDevice.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget,
        label="Test device",
        empty_label="none of them: a unit",
        help_text="One that has enrolled.",
    )
    unit = forms.CharField(
        required=False,
        max_length=128,
        widget=UnfoldAdminTextInputWidget,
        help_text="Or the id of an installation. It is not stored, only its salted SHA-256.",
    )
    label = forms.CharField(
        required=False, max_length=100, widget=UnfoldAdminTextInputWidget, help_text="How people call it."
    )

    def offer(self, channel: Channel, model: Any) -> None:
        released = Release.objects.filter(model_version=OuterRef("pk"))
        self.fields["version"].queryset = model.versions.filter(Exists(released)).order_by("-number")  # type: ignore[attr-defined]
        self.fields["test_device"].queryset = TestDevice.objects.filter(  # type: ignore[attr-defined]
            channel__application=channel.application, enrolled_at__isnull=False
        ).select_related("channel__application")


@admin.register(Pin)
class PinAdmin(MemberAdmin):
    list_display = ["name", "version", "channel", "pinned_by", "pinned_at"]
    list_filter = ["channel__application", "channel"]
    application_path = "channel__application"
    add_role = delete_role = Role.RELEASER
    empty_words = (
        "No pins",
        "A pin gives one device one version of a model, whatever is released: for a tester, or to look into a fault.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pin]:
        return super().get_queryset(request).select_related("channel__application", "version__model")

    @admin.display(description="unit", ordering="label")
    def name(self, row: Pin) -> str:
        return row.label or row.unit_key[:12]

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        choice = choose_what_to_stop(request)
        form = PinForm(request.POST or None)
        if choice.channel and choice.model:
            form.offer(choice.channel, choice.model)
            if request.method == "POST" and form.is_valid():
                with refusals_in(form):
                    return self._pin(request, choice, form)
        return self.page(
            request,
            "distribution/rule.html",
            f"Pin {choice.model} on {choice.channel}" if choice.model else "Pin",
            choice=choice,
            nothing="There is no model yet.",
            form=form,
            words="Exceptions and rollouts do not reach a unit that is pinned; a kill switch does.",
            button="Pin",
            back=reverse("admin:distribution_pin_changelist"),
        )

    def _pin(self, request: HttpRequest, choice: Choice, form: PinForm) -> HttpResponse:
        assert choice.channel is not None
        require_role(request.user, choice.channel.application, Role.RELEASER)
        wanted = form.cleaned_data
        key, label = delivery_rules.key_of(
            choice.channel.application, unit=wanted["unit"] or None, device=wanted["test_device"]
        )
        row = delivery_rules.pin(
            channel=choice.channel,
            version=wanted["version"],
            key=key,
            label=wanted["label"] or label,
            actor=request.user.get_username(),
            now=timezone.now(),
        )
        messages.success(request, f"{self.name(row)} gets {row.version} with the next revision.")
        return redirect("admin:distribution_pin_changelist")

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if request.method != "POST":
            answer: HttpResponse = super().delete_view(request, object_id, extra_context)
            return answer
        row: Pin = self.find(request, object_id, Role.RELEASER)
        delivery_rules.unpin(row=row, actor=request.user.get_username(), now=timezone.now())
        messages.success(request, f"{row.label or 'The unit'} gets what the others get.")
        return redirect("admin:distribution_pin_changelist")


class InvitationForm(forms.Form):
    channel = forms.ModelChoiceField(
        Channel.objects.none(), widget=UnfoldAdminSelectWidget, help_text="The one that the device polls from then on."
    )
    name = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "Ada's Pixel 8"}),
        help_text="By which people know the device.",
    )


@admin.register(TestDevice)
class TestDeviceAdmin(MemberAdmin):
    list_display = ["name", "channel", "how", "invited_by", "invited_at", "enrolled_at"]
    list_filter = ["channel__application", "channel"]
    application_path = "channel__application"
    add_role = delete_role = Role.RELEASER
    empty_words = (
        "No test devices",
        "Invite one by a QR code: it joins a channel such as preview, and can be pinned by its name.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[TestDevice]:
        return super().get_queryset(request).select_related("channel__application")

    @admin.display(description="state")
    def how(self, row: TestDevice) -> SafeString:
        if row.enrolled_at:
            return state("enrolled")
        return state("invited" if row.expires_at > timezone.now() else "invitation expired")

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        channels = [channel.pk for channel in release_channels(request)]
        form = InvitationForm(request.POST or None)
        form.fields["channel"].queryset = Channel.objects.filter(pk__in=channels).select_related("application")  # type: ignore[attr-defined]
        if request.method == "POST" and form.is_valid():
            with refusals_in(form):
                told: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
                row, token = delivery_rules.invite_test_device(**form.cleaned_data, **told)
                return self._invitation(request, row, token)
        return self.page(
            request,
            "distribution/rule.html",
            "Invite a test device",
            form=form,
            words="You get a QR code that lets one device in, once, within a day.",
            button="Make the QR code",
            back=reverse("admin:distribution_testdevice_changelist"),
        )

    def _invitation(self, request: HttpRequest, row: TestDevice, token: str) -> HttpResponse:
        """Not behind a redirect: the token is shown this once and is kept nowhere. No admin page is ever cached."""
        url = enrolment_url(request.build_absolute_uri("/"), token)
        picture = SafeString(qr_svg(url))
        return self.page(request, "distribution/invitation.html", f"Invite {row.name}", row=row, url=url, qr=picture)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if request.method != "POST":
            answer: HttpResponse = super().delete_view(request, object_id, extra_context)
            return answer
        row: TestDevice = self.find(request, object_id, Role.RELEASER)
        delivery_rules.remove_test_device(row=row, actor=request.user.get_username(), now=timezone.now())
        messages.success(request, f"{row.name} is forgotten, and its pins are gone.")
        return redirect("admin:distribution_testdevice_changelist")
