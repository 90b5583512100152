"""API tokens: a member makes and revokes their own; administrators see which reach their applications."""

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_in
from registry.errors import NotAllowed
from registry.models import ApiToken, Application, Role
from registry.services.tokens import LONGEST_LIFE, issue_token, revoke_token
from registry.templatetags.aerogram import state


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "nightly training"}),
        help_text="What it is for.",
    )
    role = forms.TypedChoiceField(
        choices=Role.choices,
        coerce=lambda value: Role(int(value)),
        initial=Role.VIEWER,
        widget=UnfoldAdminSelectWidget,
        help_text="The most it may do; never more than you may.",
    )
    application = forms.ModelChoiceField(
        Application.objects.none(), required=False, widget=UnfoldAdminSelectWidget, empty_label="all of yours"
    )
    days = forms.IntegerField(
        min_value=1,
        max_value=LONGEST_LIFE.days,
        initial=90,
        widget=UnfoldAdminIntegerFieldWidget,
        label="Days until it ends",
    )


@admin.register(ApiToken)
class ApiTokenAdmin(MemberAdmin):
    list_display = ["name", "user", "role_shown", "application_shown", "how", "created_at", "expires_at"]
    empty_words = ("No API tokens", "A script signs in with a token of yours: it may do what you may, or less.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        """One's own, and those that reach an application of which one is administrator."""
        rows: QuerySet[ApiToken] = ApiToken.objects.select_related("user", "application").order_by("-pk")
        if access.is_superuser(request):
            return rows
        mine = list(access.applications(request, Role.ADMINISTRATOR))
        members = Q(application=None, user__memberships__application__in=mine)
        return rows.filter(Q(user_id=request.user.pk) | Q(application__in=mine) | members).distinct()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if not isinstance(obj, ApiToken):
            return bool(request.user.is_active)
        return self.get_queryset(request).filter(pk=obj.pk).exists()

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return bool(request.user.is_active)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return isinstance(obj, ApiToken) and obj.user_id == request.user.pk

    @admin.display(description="role, at most", ordering="role")
    def role_shown(self, row: ApiToken) -> str:
        return Role(row.role).label

    @admin.display(description="application", ordering="application__slug")
    def application_shown(self, row: ApiToken) -> str:
        return str(row.application or "all of the user's")

    @admin.display(description="state", ordering="expires_at")
    def how(self, row: ApiToken) -> SafeString:
        return state("valid" if timezone.now() < row.expires_at else "expired")

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        form = TokenForm(request.POST or None)
        form.fields["application"].queryset = access.applications(request)  # type: ignore[attr-defined]
        if request.method == "POST" and form.is_valid():
            with refusals_in(form):
                row, text = _issue(request, form.cleaned_data)
                return self.page(request, "registry/token_text.html", f"The token {row}", row=row, text=text)
        words = "A script sends it with each request. Give it no more than it needs."
        back = reverse("admin:registry_apitoken_changelist")
        title = "Make an API token"
        return self.page(request, "registry/guided.html", title, form=form, words=words, button=title, back=back)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row = self._found(request, object_id)
        shown: dict[str, Any] = {
            "how": self.how(row),
            "role": self.role_shown(row),
            "application": self.application_shown(row),
        }
        is_own = self.has_delete_permission(request, row)
        return self.page(request, "registry/token.html", str(row), row=row, is_own=is_own, **shown)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        row = self._found(request, object_id)
        if not self.has_delete_permission(request, row):
            raise NotAllowed(f"expected a token of your own, got one of {row.user}")
        if request.method == "POST":
            revoke_token(token=row, actor=_name(request), now=timezone.now())
            messages.success(request, f"The token {row} is refused from now on.")
            return redirect("admin:registry_apitoken_changelist")
        title, back = f"Revoke {row}", reverse("admin:registry_apitoken_change", args=[row.pk])
        words = "Scripts that use it are refused from now on. This cannot be undone."
        context: dict[str, Any] = {"words": words, "button": "Revoke", "danger": True, "back": back}
        return self.page(request, "registry/guided.html", title, **context)

    def _found(self, request: HttpRequest, object_id: str) -> ApiToken:
        """Raises `Http404` also for those that others must not know of."""
        row = self.get_queryset(request).filter(pk=object_id).first() if object_id.isdigit() else None
        if row is None:
            raise Http404(f"expected the id of a token, got {object_id!r}")
        return row


def _issue(request: HttpRequest, wanted: dict[str, Any]) -> tuple[ApiToken, str]:
    now = timezone.now()
    ends = now + timedelta(days=wanted["days"])
    return issue_token(
        user=cast("Any", request.user),
        name=wanted["name"],
        role=wanted["role"],
        application=wanted["application"],
        expires_at=ends,
        now=now,
    )


def _name(request: HttpRequest) -> str:
    return str(cast("Any", request.user).get_username())
