"""Releasing and rolling back as guided pages: what each device class gets stands above the button."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from distribution import approvals, preview, services
from distribution.admin import explain
from distribution.admin.choosing import Choice, choose_version, choose_what_is_live
from distribution.models import Release
from experiments.services import kept_apart
from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_in
from registry.errors import DomainError, NotAllowed
from registry.models import Channel, ModelVersion, RegisteredModel, Role
from registry.services import require_role, verdicts
from registry.templatetags.aerogram import state


class ReasonForm(forms.Form):
    reason = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        max_length=2000,
        required=False,
        help_text="Why this version, for those who read the audit log later.",
    )


class PublishForm(ReasonForm):
    publish_at = forms.DateTimeField(
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-12-01 08:00"}),
        required=False,
        help_text="UTC; empty: as soon as it is approved, or at once where nobody need approve.",
    )


class RequiredReasonForm(forms.Form):
    reason = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        max_length=2000,
        help_text="What is wrong, for those who read the audit log later.",
    )


@admin.register(Release)
class ReleaseAdmin(MemberAdmin):
    """Rows are never edited: a page of its own adds each, and shows it on its way to devices."""

    list_display = ["version", "channel", "how", "counter", "released_by", "released_at", "reason"]
    list_filter = ["channel__application", "channel", "state"]
    application_path = "channel__application"
    add_role = Role.RELEASER
    list_before_template = "distribution/releases_before.html"
    empty_words = (
        "Nothing released yet",
        "Publish a converted version to a channel; devices get it at their next poll.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Release]:
        return super().get_queryset(request).select_related("model_version__model", "channel__application")

    @admin.display(ordering="model_version__number")
    def version(self, release: Release) -> str:
        return str(release.model_version)

    @admin.display(description="state", ordering="state")
    def how(self, release: Release) -> SafeString:
        return state(release.state)

    @admin.display(description="kind")
    def counter(self, release: Release) -> str:
        return "rollback" if release.is_rollback else f"release {release.release_counter}"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("roll-back/", wrap(self.roll_back_view), name="distribution_release_roll_back"),
            path("explain/", wrap(self.explain_view), name="distribution_release_explain"),
            path("<int:pk>/way/", wrap(self.way_view), name="distribution_release_way"),
            *super().get_urls(),
        ]

    # -- publishing

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        choice = choose_version(request)
        form = PublishForm(request.POST or None)
        if request.method == "POST" and choice.channel and choice.version and form.is_valid():
            answer = self._publish(request, choice.channel, choice.version, form)
            if answer is not None:
                return answer
        shown = (
            _shown(choice.channel, choice.version.model, choice.version) if choice.version and choice.channel else {}
        )
        return self.page(
            request, "distribution/publish.html", "Publish", choice=choice, form=form, why_not=_why_not(choice), **shown
        )

    def _publish(
        self, request: HttpRequest, channel: Channel, version: ModelVersion, form: forms.Form
    ) -> HttpResponse | None:
        require_role(request.user, channel.application, Role.RELEASER)
        publish_at = form.cleaned_data["publish_at"]
        told = {"actor": request.user.get_username(), "now": timezone.now(), "reason": form.cleaned_data["reason"]}
        with refusals_in(form):
            if publish_at is None and not services.settings_of(channel).approvals_required:
                made = services.publish(channel=channel, version=version, **told)
                messages.success(request, f"{version} is released to {channel}. Devices get it once it is signed.")
                _tell_who_does_not_get_it(request, made)
                return redirect("admin:distribution_release_change", made.pk)
            asked = approvals.request_release(channel=channel, version=version, publish_at=publish_at, **told)
            messages.info(request, f"{asked} is {asked.state}.")
            return redirect("admin:distribution_releaserequest_change", asked.pk)
        return None

    # -- rolling back

    def roll_back_view(self, request: HttpRequest) -> HttpResponse:
        choice = choose_what_is_live(request)
        targets = preview.rollback_targets(choice.channel, choice.model) if choice.channel and choice.model else []
        wanted = request.GET.get("to", "")
        target = next((row for row in targets if str(row.model_version.number) == wanted), None)
        target = target or next(iter(targets), None)
        form = RequiredReasonForm(request.POST or None)
        if request.method == "POST" and choice.channel and choice.model and target and form.is_valid():
            made = self._roll_back(request, choice.channel, choice.model, target, form)
            if made is not None:
                return redirect("admin:distribution_release_change", made.pk)
        shown = _shown(choice.channel, target.model_version.model, target) if target and choice.channel else {}
        return self.page(
            request,
            "distribution/roll_back.html",
            "Roll back",
            choice=choice,
            targets=targets,
            target=target,
            form=form,
            **shown,
        )

    def _roll_back(
        self, request: HttpRequest, channel: Channel, model: RegisteredModel, target: Release, form: forms.Form
    ) -> Release | None:
        require_role(request.user, channel.application, Role.RELEASER)
        with refusals_in(form):
            made = services.roll_back(
                channel=channel,
                model=model,
                to_version=target.model_version.number,
                actor=request.user.get_username(),
                now=timezone.now(),
                reason=form.cleaned_data["reason"],
            )
            messages.success(request, f"{channel} goes back to {made.model_version}.")
            _tell_who_does_not_get_it(request, made)
            return made
        return None

    # -- what one device would get

    def explain_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise NotAllowed("expected a role in an application, got none")
        found = explain.pairs(request)
        pair = explain.chosen(request, found)
        form = explain.ExplainForm(request.GET if "os" in request.GET else None)
        told, refused = None, ""
        if pair is not None and form.is_valid():
            try:
                told = explain.told(pair, form)
            except DomainError as error:
                refused = str(error)
        context: dict[str, Any] = {"pairs": found, "chosen": pair, "form": form, "told": told, "refused": refused}
        return self.page(request, "distribution/explain.html", "Why a device gets what it gets", **context)

    # -- one release on its way

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        release: Release = self.find(request, object_id)
        return self.page(request, "distribution/release.html", str(release), **_way(request, release))

    def way_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that changes until devices have the release."""
        return self.page(request, "distribution/_way.html", "", **_way(request, self.find(request, pk)))


def _tell_who_does_not_get_it(request: HttpRequest, made: Release) -> None:
    for told in kept_apart(made.channel, made.model_version):
        messages.warning(request, f"{told}.")


def _why_not(choice: Choice) -> str:
    """Why the chosen version cannot be released to the chosen channel; empty when it can."""
    if choice.version is None or choice.channel is None:
        return ""
    try:
        services.require_releasable(choice.version)
    except DomainError as error:
        return str(error)
    releases = Release.objects.to_channel().filter(channel=choice.channel)
    newest = releases.filter(model_version__model=choice.version.model).first()
    if newest is not None and newest.model_version_id == choice.version.pk:
        return f"{choice.channel} has {choice.version} already; expected another version"
    return ""


def _shown(channel: Channel, model: RegisteredModel, after: ModelVersion | Release) -> dict[str, Any]:
    live = preview.live_release(channel, model)
    offered = preview.offers(channel, live, after)
    version = after.model_version if isinstance(after, Release) else after
    return {
        "offers": offered,
        "live": live,
        "after": version,
        "blocked": [verdict for verdict in verdicts(after) if verdict.is_blocked]
        if isinstance(after, ModelVersion)
        else [],
        "waiting": preview.waiting_release(channel, model),
        "lost": [offer for offer in offered if offer.is_lost],
        "switch": channel.kill_switches.filter(model=model, lifted_at__isnull=True).first(),
    }


def _way(request: HttpRequest, release: Release) -> dict[str, Any]:
    is_waiting = release.state == Release.State.WAITING
    application = release.channel.application
    return {
        "release": release,
        "can_release": access.holds(request, Role.RELEASER, release.channel.application_id),
        "is_waiting": is_waiting,
        "is_overtaken": is_waiting
        and Release.objects.to_channel()
        .filter(channel=release.channel, model_version__model=release.model_version.model, pk__gt=release.pk)
        .exists(),
        "revision": application.revisions.filter(published_at__isnull=False).first(),
        "way_url": reverse("admin:distribution_release_way", args=[release.pk]),
        "switch": release.channel.kill_switches.filter(
            model=release.model_version.model, lifted_at__isnull=True
        ).first(),
    }
