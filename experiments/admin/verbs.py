"""The verbs of an experiment, a page each: what would change stands above the button; REST calls the same services."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextareaWidget

from experiments import services
from experiments.admin.asks import Ask, CompleteAsk, HaltAsk, RampAsk, StartAsk, SupersedeAsk
from experiments.admin.effects import Effect, effect_of
from experiments.admin.headline import unmet
from experiments.api.actions import VERBS
from experiments.api.serializers import ReasonBody
from experiments.lifecycle import OF_ANOTHER_PERSON, ROLES, State, Verb, verbs_of
from experiments.models import Experiment
from experiments.words import percent
from registry.admin import access
from registry.admin.shared import MemberAdmin
from registry.api.serializers import ROLES as ROLES_BY_NAME
from registry.errors import DomainError, Stale

Awaiting = Experiment.Awaiting
TONES = ("primary", "", "danger")
NEEDS_REASON = {said for said, (body, _) in VERBS.items() if issubclass(body, ReasonBody)}


@dataclass(frozen=True)
class Page:
    """`tone`: primary, danger, or empty. `kept_apart`: what is rarely wanted, behind "More". `reason`: proposed."""

    label: str
    icon: str
    words: str
    tone: str = ""
    asks: type[Ask] | None = None
    kept_apart: bool = False
    reason: str = ""


EDIT = Page("Edit", "edit", "Changes the design; it is a draft again, and what was approved is void.")
PAGES: dict[Verb, Page] = {
    Verb.SUBMIT: Page("Submit", "send", "Somebody else is asked to approve the design as it is now.", "primary"),
    Verb.APPROVE: Page(
        "Approve",
        "thumb_up",
        "Your yes to what is asked for. With the last one that is needed, the versions of the arms go to the publisher "
        "to be signed, or a halted experiment goes on.",
        "primary",
    ),
    Verb.REJECT: Page("Reject", "thumb_down", "It is a draft again, and what was approved is void."),
    Verb.START: Page(
        "Start", "play_arrow", "It takes its buckets, and the first step is served.", "primary", asks=StartAsk
    ),
    Verb.PAUSE: Page("Pause", "pause", "Devices keep what they have, and the plan stays at its step."),
    Verb.RESUME: Page(
        "Resume",
        "resume",
        "After a pause it goes on at once. After a halt, of all or of classes, somebody else must approve going on.",
        "primary",
    ),
    Verb.ADVANCE: Page("Advance", "skip_next", "The plan goes to its next step.", "primary"),
    Verb.APPROVE_STEP: Page(
        "Approve step", "task_alt", "Your yes to leaving the present step once its other conditions are met.", "primary"
    ),
    Verb.RAMP: Page(
        "Ramp", "trending_up", "Sets the percentage, whatever the plan's conditions say; no device changes its arm "
        "when it rises.", asks=RampAsk,
    ),
    Verb.SUPERSEDE: Page(
        "Supersede",
        "swap_horiz",
        "A fix takes the place of an arm's version: the same units, a new phase. It needs no approval.",
        asks=SupersedeAsk,
        kept_apart=True,
    ),
    Verb.RERANDOMISE: Page(
        "Re-randomise",
        "shuffle",
        "All units are drawn anew at the same percentage: many change their version, and what was measured so far is "
        "closed.",
        kept_apart=True,
    ),
    Verb.HALT: Page(
        "Halt",
        "front_hand",
        "Frozen with the next revision: who runs the treatment keeps it, nobody else gets it. It needs one person; "
        "going on needs another.",
        "danger",
        asks=HaltAsk,
        reason="halted by hand to look into it",
    ),
    Verb.ROLLBACK: Page(
        "Roll back",
        "undo",
        "It ends, and every unit returns to the current release. It needs one person and cannot be taken back.",
        "danger",
    ),
    Verb.COMPLETE: Page(
        "Complete",
        "flag",
        "It ends. The winner's version is released to the whole channel; without a winner the current release stays.",
        asks=CompleteAsk,
    ),
    Verb.ARCHIVE: Page("Archive", "archive", "It is put aside for good; its results stay.", kept_apart=True),
}  # fmt: skip


# -- what is offered ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Offer:
    """A way to a verb's page. `why_not`: in words, why this person cannot say it; empty when it can be said."""

    label: str
    icon: str
    url: str
    tone: str
    kept_apart: bool
    why_not: str


def offered(request: HttpRequest, experiment: Experiment) -> list[Offer]:
    """What the state table allows: what leads on first, then what stops it."""
    found = [
        Offer(page.label, page.icon, url_of(said, experiment), page.tone, page.kept_apart, why_not(request, row, said))
        for said, page in {Verb.EDIT: EDIT, **PAGES}.items()
        for row in [experiment]
        if said in verbs_of(row.state) and _is_asked_for(said, row)
    ]
    return sorted(found, key=lambda offer: TONES.index(offer.tone))


def url_of(said: Verb, experiment: Experiment) -> str:
    return reverse(f"admin:experiments_experiment_{_address(said)}", args=[experiment.pk])


def why_not(request: HttpRequest, experiment: Experiment, said: Verb) -> str:
    """The role, then the second pair of eyes, then what the plan lacks."""
    role, name = ROLES_BY_NAME[ROLES[said]], request.user.get_username()
    if not access.holds(request, role, experiment.application_id):
        return f"needs the role {role.label} in {experiment.application}"
    if said in OF_ANOTHER_PERSON:
        if name in experiment.authors:
            return "somebody else must say it: you wrote it, edited it, or asked for it"
        purpose = Awaiting.STEP if said is Verb.APPROVE_STEP else experiment.awaiting
        if experiment.approvals.filter(edition=experiment.edition, purpose=purpose, approved_by=name).exists():
            return "you have said it; somebody else must, too"
    if said is Verb.ADVANCE:
        now = timezone.now()
        advice = services.plan_advice(experiment, now)
        return "; ".join(unmet(experiment, advice, now)) or "; ".join(each.detail for each in advice.unmet)
    return ""


def _is_asked_for(said: Verb, row: Experiment) -> bool:
    """What the table lets be said only besides something else."""
    if said is Verb.APPROVE:
        return row.awaiting in (Awaiting.START, Awaiting.RESUME)
    if said is Verb.APPROVE_STEP:
        return row.step is not None and row.step.needs_approval
    if said is Verb.RESUME and row.awaiting == Awaiting.RESUME:
        return False
    return not (said is Verb.RESUME and row.state == State.RUNNING and not row.halted_classes)


def _address(said: Verb) -> str:
    return said.value.replace("_", "-")


# -- the pages ------------------------------------------------------------------------------------------------------
class SayingForm(forms.Form):
    """`seen`: the version of the row that the page showed, and the last entry of its log."""

    reason = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        max_length=1000,
        help_text="Stands in the audit log.",
    )
    row_version = forms.IntegerField(widget=forms.HiddenInput, min_value=1)
    entry = forms.IntegerField(widget=forms.HiddenInput, min_value=0, required=False)

    def __init__(self, said: Verb, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["reason"].required = said in NEEDS_REASON


class VerbPages(MemberAdmin):
    """For the admin of experiments: a page for each verb."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        pages = [
            path(
                f"<int:pk>/{_address(said)}/",
                wrap(partial(self.verb_view, said=said)),
                name=f"experiments_experiment_{_address(said)}",
            )
            for said in PAGES
        ]
        return [*pages, *super().get_urls()]

    def verb_view(self, request: HttpRequest, pk: int, *, said: Verb) -> HttpResponse:
        row: Experiment = self.find(request, pk, ROLES_BY_NAME[ROLES[said]])
        page = PAGES[said]
        ask = page.asks(row, request.GET) if page.asks else None
        context: dict[str, Any] = {}
        if request.method == "POST":
            form = SayingForm(said, request.POST)
            try:
                if form.is_valid() and (ask is None or ask.is_valid()):
                    return self._say(request, row, said, form, ask)
            except Stale:
                row.refresh_from_db()
                context["meanwhile"] = meanwhile(row, form.cleaned_data["entry"])
                form.data = {**request.POST.dict(), **seen(row)}
            except DomainError as error:
                _tell(error, ask, form)
        else:
            form = SayingForm(said, initial={"reason": page.reason, **seen(row)})
        effect, refused = _effect(request, row, said, ask)
        return self.page(
            request,
            "experiments/act.html",
            f"{page.label} {row}",
            row=row, words=page, ask=ask, form=form, effect=effect, refused=refused, now_is=_now_is(row),
            button=_button(page, ask), back=reverse("admin:experiments_experiment_change", args=[row.pk]), **context,
        )  # fmt: skip

    def _say(
        self, request: HttpRequest, row: Experiment, said: Verb, form: SayingForm, ask: Ask | None
    ) -> HttpResponse:
        getattr(services, said.value)(
            experiment=row,
            actor=request.user.get_username(),
            now=timezone.now(),
            reason=form.cleaned_data["reason"],
            row_version=form.cleaned_data["row_version"],
            **(ask.wanted() if ask else {}),
        )
        messages.success(request, f"{_button(PAGES[said], ask)}: done. {row} is {row.state.replace('_', ' ')}.")
        return redirect("admin:experiments_experiment_change", row.pk)


def _effect(request: HttpRequest, row: Experiment, said: Verb, ask: Ask | None) -> tuple[Effect | None, str]:
    """What it would do, or why it is refused."""
    if ask is not None and not ask.is_valid():
        return None, ""
    wanted, actor = ask.wanted() if ask else {}, request.user.get_username()
    try:
        return effect_of(row, said.value, actor=actor, reason="", **wanted), ""
    except DomainError as error:
        if ask is not None and _field(error, ask) in ask.fields:
            _tell(error, ask, ask)
            return None, ""
        return None, str(error)


def _tell(error: DomainError, ask: Ask | None, form: forms.Form) -> None:
    """Beside the field it is about, wherever that is."""
    named = _field(error, ask)
    at = ask if ask is not None and named in ask.fields else form
    at.add_error(named if named in at.fields else None, str(error))


def _field(error: DomainError, ask: Ask | None) -> str:
    return (ask.names if ask else {}).get(error.field or "", error.field or "")


def meanwhile(row: Experiment, entry: int | None) -> list[dict[str, Any]]:
    """What the log says since that entry, in words; nothing where none is named."""
    found = services.changes(row).filter(pk__gt=entry) if entry is not None else []
    return [
        {"actor": each.actor, "at": each.at, "reason": each.reason, "words": _said_in_log(each.verb)} for each in found
    ]


def seen(row: Experiment) -> dict[str, Any]:
    """For the hidden fields of a page that shows the row as it is now."""
    newest = services.changes(row).first()
    return {"row_version": row.row_version, "entry": newest.pk if newest else 0}


def _said_in_log(verb: str) -> str:
    return "said " + verb.removesuffix("_experiment").removesuffix("_of").replace("_", " ")


def _now_is(row: Experiment) -> str:
    phase = row.phase
    return row.state.replace("_", " ") + (f" at {percent(phase.percent_bp)}" if phase else "")


def _button(page: Page, ask: Ask | None) -> str:
    """What the button says: what exactly it does."""
    wanted = ask.wanted() if ask is not None and ask.is_valid() else {}
    told: dict[str, Callable[[Any], str]] = {
        "to_bp": lambda to_bp: f"to {percent(to_bp)}",
        "device_class": lambda name: f"for {name}",
        "winner": lambda name: f"with {name}",
        "version": lambda number: f"by version {number}",
        "starts_at": lambda moment: f"at {moment:%Y-%m-%d %H:%M}",
    }
    return " ".join([page.label, *(told[name](value) for name, value in wanted.items() if name in told)])
