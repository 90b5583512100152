"""Pages that steer a version's conversions, and say what of it may be released."""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextareaWidget

from registry import services
from registry.admin.forms import GatesForm, ProfileForm, ReasonForm
from registry.admin.shared import MemberAdmin, refusals_in, refusals_told
from registry.conversion.comparison import Side
from registry.conversion.recipes import RECIPES
from registry.errors import DomainError, Invalid, NotFound
from registry.models import ConversionJob, JobState, ModelVersion, RegisteredModel, Role
from registry.services.comparing import compare_versions
from registry.services.matrix import matrix

VERSION_PAGE, MODEL_PAGE = "admin:registry_modelversion_change", "admin:registry_registeredmodel_change"


class RebuildForm(forms.Form):
    notes = forms.CharField(
        required=False, max_length=10_000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), label="Notes"
    )


def version_urls(page: MemberAdmin) -> list[URLPattern]:
    views = {
        "progress": progress_view,
        "steer": steer_view,
        "recipes": recipes_view,
        "rebuild": rebuild_view,
        "override": override_view,
        "compare": compare_view,
    }
    return [_url(page, "registry_modelversion", name, view) for name, view in views.items()]


def model_urls(page: MemberAdmin) -> list[URLPattern]:
    views = {"gates": gates_view, "profiles": profiles_view}
    return [_url(page, "registry_registeredmodel", name, view) for name, view in views.items()]


def _url(page: MemberAdmin, kind: str, name: str, view: Callable[..., HttpResponse]) -> URLPattern:
    found: URLPattern = path(
        f"<int:pk>/{name}/", page.admin_site.admin_view(partial(view, page)), name=f"{kind}_{name}"
    )
    return found


def progress_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """What the version's page asks for again and again while conversions run."""
    version: ModelVersion = page.find(request, pk)
    wanted = ("recipe", "state", "state_shown", "step", "percent", "log_tail")
    return JsonResponse({"rows": [{name: getattr(row, name) for name in wanted} for row in matrix(version)]})


def steer_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """A button beside a conversion: `action` cancel, cancel-all, retry, priority or reproduce, and the `recipe`."""
    version: ModelVersion = page.find(request, pk, Role.EDITOR)
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    with refusals_told(request):
        messages.success(request, _steer(request, version))
    return redirect(VERSION_PAGE, version.pk)


def _steer(request: HttpRequest, version: ModelVersion) -> str:
    action, recipe = request.POST.get("action", ""), request.POST.get("recipe", "")
    doing: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
    if action == "cancel-all":
        services.cancel_version(version=version, **doing)
        return f"All open conversions of {version} are being stopped."
    if action == "reproduce":
        variant = version.variants.filter(name=recipe).first()
        if variant is None:
            raise NotFound(f"expected a variant of {version}, got {recipe!r}")
        services.request_reproduction(variant=variant, **doing)
        return f"{recipe} is being built again; the comparison will stand beside it."
    job = _job(version, recipe)
    if action == "cancel":
        services.cancel_job(job=job, **doing)
        return f"{recipe} is being stopped."
    if action == "retry":
        services.retry_job(job=job, **doing)
        return f"{recipe} runs again."
    if action == "priority":
        services.prioritise_job(job=job, priority=_number(request.POST.get("priority", "")), **doing)
        return f"{recipe} has another priority."
    raise Invalid(f"expected cancel, cancel-all, retry, priority or reproduce, got {action!r}", field="action")


def recipes_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    version: ModelVersion = page.find(request, pk, Role.EDITOR)
    error = ""
    if request.method == "POST":
        try:
            services.request_recipes(
                version=version,
                recipes=request.POST.getlist("recipe"),
                actor=request.user.get_username(),
                now=timezone.now(),
            )
        except DomainError as refusal:
            error = str(refusal)
        else:
            messages.success(request, f"Further conversions of {version} are asked for.")
            return redirect(VERSION_PAGE, version.pk)
    known = set(version.jobs.exclude(state="not_applicable").values_list("recipe", flat=True))
    offered = [recipe for recipe in RECIPES.values() if recipe.slug not in known]
    profiles = version.model.profiles.all()
    title = f"Further recipes of {version}"
    return page.page(
        request, "registry/recipes.html", title, version=version, offered=offered, profiles=profiles, error=error
    )


def rebuild_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    version: ModelVersion = page.find(request, pk, Role.EDITOR)
    form = RebuildForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            made = services.rebuild_version(
                version=version,
                notes=form.cleaned_data["notes"],
                actor=request.user.get_username(),
                now=timezone.now(),
            )
            messages.success(request, f"{made} is being built from the source of {version}.")
            return redirect(VERSION_PAGE, made.pk)
    words = (
        "A new version is made of the same source with the same recipes, by the converters of today. What would come "
        "out the same is taken from this one."
    )
    return _form(page, request, f"Rebuild {version}", form, words, "Rebuild", (VERSION_PAGE, version.pk))


def override_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """`?variant=<name>`: release it all the same."""
    version: ModelVersion = page.find(request, pk, Role.RELEASER)
    name = request.GET.get("variant", "")
    verdict = next((found for found in services.verdicts(version) if found.variant.name == name), None)
    form = ReasonForm(request.POST or None)
    if verdict is None or not verdict.is_blocked:
        form.fields.clear()
        words = (
            f"No gate blocks {name or 'a variant'} of {version}." if verdict else f"{version} has no variant {name!r}."
        )
        return _form(page, request, f"Override for {version}", form, words, "", (VERSION_PAGE, version.pk))
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            services.override_gates(
                variant=verdict.variant,
                reason=form.cleaned_data["reason"],
                actor=request.user.get_username(),
                now=timezone.now(),
            )
            messages.success(request, f"{name} may be released with {version}.")
            return redirect(VERSION_PAGE, version.pk)
    missed = "; ".join(map(str, verdict.uncovered))
    words = f"{name} misses: {missed}. The override covers these misses and no later ones."
    return _form(page, request, f"Release {name} all the same", form, words, "Override", (VERSION_PAGE, version.pk))


def compare_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """`?with=<number>`: another version of the model; without it, the one before."""
    version: ModelVersion = page.find(request, pk)
    others = list(version.model.versions.exclude(pk=version.pk))
    wanted = request.GET.get("with", "")
    older = next((other for other in others if str(other.number) == wanted), None)
    older = older or next((other for other in others if other.number < version.number), next(iter(others), None))
    rows = compare_versions(older, version) if older else ()
    both = [row for row in rows if row.difference or (is_built(row.older) and is_built(row.newer))]
    only = {
        of: [row.recipe for row in rows if is_built(side(row)) and row not in both]
        for of, side in ((older, attrgetter("older")), (version, attrgetter("newer")))
    }
    return page.page(
        request,
        "registry/compare.html",
        f"Compare {version}",
        version=version,
        older=older,
        others=others,
        rows=both,
        only={of: recipes for of, recipes in only.items() if recipes},
    )


def is_built(side: Side | None) -> bool:
    return side is not None and side.state == JobState.SUCCEEDED


def gates_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    model: RegisteredModel = page.find(request, pk, Role.RELEASER)
    form = GatesForm(request.POST or None, initial=GatesForm.shown(model.gates))
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            services.set_gates(model=model, gates=form.gates(), actor=request.user.get_username(), now=timezone.now())
            messages.success(request, f"{model} has other gates; what is live stays.")
            return redirect(MODEL_PAGE, model.pk)
    words = "What a variant must keep to before it is released. An empty field is no gate."
    return _form(page, request, f"Gates of {model}", form, words, "Save the gates", (MODEL_PAGE, model.pk))


def profiles_view(page: MemberAdmin, request: HttpRequest, pk: int) -> HttpResponse:
    """Make or replace the profile of a name; `delete=<name>` takes one away."""
    model: RegisteredModel = page.find(request, pk, Role.EDITOR)
    doing: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
    known = {profile.name: profile for profile in model.profiles.all()}
    form = ProfileForm(request.POST or None, initial=ProfileForm.shown(known.get(request.GET.get("name", ""))))
    if request.method == "POST" and request.POST.get("delete") in known:
        services.delete_profile(profile=known[request.POST["delete"]], **doing)
        messages.success(request, "The profile is deleted; versions made with it stay.")
        return redirect(MODEL_PAGE, model.pk)
    if request.method == "POST" and form.is_valid():
        with refusals_in(form):
            _save_profile(model, known, form.cleaned_data, doing)
            messages.success(request, f"The profile {form.cleaned_data['name']} is saved.")
            return redirect(MODEL_PAGE, model.pk)
    words = "A push that names the profile builds these recipes; the default one is for pushes that name nothing."
    return _form(page, request, f"Profile of {model}", form, words, "Save the profile", (MODEL_PAGE, model.pk))


def _save_profile(model: RegisteredModel, known: dict[str, Any], wanted: dict[str, Any], doing: dict[str, Any]) -> None:
    options = {"recipes": wanted["recipes"], "is_default": wanted["is_default"], **doing}
    if wanted["name"] in known:
        services.replace_profile(profile=known[wanted["name"]], **options)
    else:
        services.create_profile(model=model, name=wanted["name"], **options)


def _job(version: ModelVersion, recipe: str) -> ConversionJob:
    job: ConversionJob | None = version.jobs.filter(recipe=recipe).first()
    if job is None:
        raise NotFound(f"expected a recipe asked for {version}, got {recipe!r}", field="recipe")
    return job


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Invalid(f"expected a whole number as priority, got {text!r:.40}", field="priority") from error


def _form(
    page: MemberAdmin,
    request: HttpRequest,
    title: str,
    form: forms.Form,
    words: str,
    button: str,
    back: tuple[str, int],
) -> HttpResponse:
    return page.page(request, "registry/act.html", title, form=form, words=words, button=button, back=back)
