"""What is sent and what is answered: names and bounds. Rules are the services' business."""

from typing import Any

from rest_framework import serializers

from experiments.bucketing import BUCKETS
from experiments.lifecycle import Kind, State
from experiments.models import AnalysisRun, Experiment, Holdback, Layer, Override, Step
from experiments.models.layers import DEFAULT_LAYER
from experiments.policy import Action
from registry.api.pages import PageQuery
from registry.api.serializers import Body
from registry.models.applications import slug_validator

KINDS = [kind.value for kind in Kind]
STATES = [state.value for state in State]
VERDICTS = [action.value for action in Action]
LONGEST_HOLD = 366 * 86_400
MOST_PHASES = 1_000_000
MOST_MIN_UNITS = 100_000_000


def reason(*, required: bool) -> serializers.CharField:
    if required:
        return serializers.CharField(max_length=1000)
    return serializers.CharField(max_length=1000, required=False, allow_blank=True, default="")


class BucketRange(serializers.ListField):
    """[first, end], half-open."""

    child = serializers.IntegerField(min_value=0, max_value=BUCKETS)

    def __init__(self, **options: Any) -> None:
        super().__init__(min_length=2, max_length=2, **options)


class PercentField(serializers.IntegerField):
    """Basis points."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"min_value": 0, "max_value": BUCKETS, "help_text": "Basis points: 2500 is 25 %.", **options}
        )


# What is sent --------------------------------------------------------------------------------------------------------
class WriteQuery(serializers.Serializer[Any]):
    validate_only = serializers.BooleanField(
        default=False, help_text="Answer what would change and how many units would move, and do nothing."
    )


class ReasonQuery(serializers.Serializer[Any]):
    reason = reason(required=False)


class ReasonWriteQuery(ReasonQuery, WriteQuery):
    pass


class ArmBody(Body):
    name = serializers.CharField(validators=[slug_validator])
    version = serializers.IntegerField(
        min_value=1, required=False, allow_null=True, default=None, help_text="null: the model embedded in the app."
    )
    control = serializers.BooleanField(default=False)
    share_bp = serializers.IntegerField(
        min_value=1, max_value=BUCKETS, required=False, help_text="Of all participants; equal where left out."
    )


class StepBody(Body):
    percent_bp = PercentField()
    hold_seconds = serializers.IntegerField(min_value=0, max_value=LONGEST_HOLD, default=0)
    min_units = serializers.IntegerField(min_value=0, max_value=MOST_MIN_UNITS, default=0)
    needs_approval = serializers.BooleanField(default=False)
    monitored = serializers.BooleanField(default=True)


class DesignBody(Body):
    """What may be changed until it is served. What is left out stays as it is."""

    version = serializers.IntegerField(min_value=1, required=False, help_text="Of a rollout: what is rolled out.")
    arms = ArmBody(many=True, required=False)
    steps = StepBody(many=True, required=False)
    hypothesis = serializers.CharField(max_length=10_000, required=False, allow_blank=True)
    policy = serializers.DictField(required=False)
    layer_range = BucketRange(required=False)
    starts_at = serializers.DateTimeField(required=False, allow_null=True)


class EditBody(DesignBody):
    reason = reason(required=False)


class NewRolloutBody(DesignBody):
    slug = serializers.CharField(validators=[slug_validator])
    channel = serializers.CharField(max_length=63)
    model = serializers.CharField(max_length=63)
    layer = serializers.CharField(validators=[slug_validator], default=DEFAULT_LAYER)
    reason = reason(required=False)


class NewExperimentBody(NewRolloutBody):
    kind = serializers.ChoiceField(choices=KINDS)


class ReasonBody(Body):
    reason = reason(required=True)


class SaidBody(Body):
    reason = reason(required=False)


class StartBody(SaidBody):
    starts_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class RampBody(ReasonBody):
    to_bp = PercentField()


class SupersedeBody(ReasonBody):
    version = serializers.IntegerField(min_value=1)
    arm = serializers.CharField(max_length=63, required=False, allow_null=True, default=None)


class HaltBody(ReasonBody):
    device_class = serializers.CharField(
        max_length=63, required=False, allow_null=True, default=None, help_text="Halt for this class alone."
    )


class CompleteBody(SaidBody):
    winner = serializers.CharField(
        max_length=63,
        required=False,
        allow_null=True,
        default=None,
        help_text="The arm that becomes current; of a rollout its treatment.",
    )


class OverrideBody(SaidBody):
    unit = serializers.CharField(max_length=128, help_text="The installation's id; only a hash of it is stored.")
    arm = serializers.CharField(max_length=63)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class HoldbackBody(ReasonBody):
    version = serializers.IntegerField(min_value=1)
    percent_bp = serializers.IntegerField(min_value=1, max_value=BUCKETS // 2, default=200)
    until = serializers.DateTimeField(required=False, allow_null=True, default=None)


class ExperimentQuery(PageQuery):
    channel = serializers.CharField(max_length=63, required=False)
    model = serializers.CharField(max_length=63, required=False)
    state = serializers.ChoiceField(choices=STATES, required=False)


class SliceQuery(PageQuery):
    channel = serializers.CharField(max_length=63, required=False)
    model = serializers.CharField(max_length=63, required=False)


class UnitQuery(serializers.Serializer[Any]):
    unit = serializers.CharField(max_length=128)


# What is answered ----------------------------------------------------------------------------------------------------
class PlanStepSerializer(serializers.ModelSerializer[Step]):
    class Meta:
        model = Step
        fields = ["percent_bp", "hold_seconds", "min_units", "needs_approval", "monitored"]


class DesignedArmSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.IntegerField(allow_null=True)
    control = serializers.BooleanField()
    share_bp = serializers.IntegerField()


class PreviewSerializer(serializers.Serializer[Any]):
    changes = serializers.DictField(help_text="[before, after] by name.")
    buckets_moved = serializers.IntegerField(help_text="Of 10 000 within its part of the layer.")
    units_moved = serializers.IntegerField(help_text="Would be served another version.")
    units_known = serializers.IntegerField()
    is_sample = serializers.BooleanField(help_text="There are more units than were looked at.")


class ExperimentSerializer(serializers.ModelSerializer[Experiment]):
    channel = serializers.CharField(source="channel.slug")
    model = serializers.CharField(source="model.slug")
    layer = serializers.CharField(source="layer.slug")
    layer_id = serializers.IntegerField(help_text="For its map.")
    kind = serializers.ChoiceField(choices=KINDS)
    state = serializers.ChoiceField(choices=STATES)
    layer_range = serializers.SerializerMethodField()
    arms = DesignedArmSerializer(many=True)
    steps = PlanStepSerializer(many=True)
    phase = serializers.IntegerField(source="phase.number", allow_null=True, default=None)
    percent_bp = serializers.IntegerField(source="phase.percent_bp", allow_null=True, default=None)
    approved_by = serializers.ListField(child=serializers.CharField(), source="approvers")
    preview = PreviewSerializer(
        allow_null=True,
        default=None,
        help_text="Of a request with validate_only: what it would do, of which nothing was done.",
    )

    class Meta:
        model = Experiment
        fields = [
            "slug",
            "kind",
            "channel",
            "model",
            "state",
            "state_reason",
            "hypothesis",
            "arms",
            "steps",
            "policy",
            "layer",
            "layer_id",
            "layer_range",
            "starts_at",
            "created_by",
            "created_at",
            "edited_by",
            "edition",
            "awaiting",
            "approved_by",
            "started_at",
            "ended_at",
            "step_position",
            "halted_classes",
            "seed",
            "phase",
            "percent_bp",
            "preview",
        ]

    def get_layer_range(self, row: Experiment) -> list[int]:
        return [row.layer_first, row.layer_end]


class ArmStatusSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.IntegerField(allow_null=True)
    control = serializers.BooleanField()
    ranges = serializers.ListField(child=BucketRange())
    expected_share = serializers.FloatField()
    units = serializers.IntegerField(help_text="Assigned in the present phase, as of the last look.")
    activated = serializers.IntegerField(help_text="Of these, run the arm's version.")
    failed = serializers.IntegerField(help_text="Of these, reported a failure that they did not overcome.")
    lost = serializers.IntegerField(help_text="Of these, went silent on the way.")
    heard_at = serializers.DateTimeField(allow_null=True, help_text="When one of them reported last.")


class LackingSerializer(serializers.Serializer[Any]):
    """0, null, false and [] where nothing is lacking."""

    seconds = serializers.IntegerField(help_text="Of the step's time.")
    units = serializers.IntegerField(help_text="In the smallest arm.")
    verdict = serializers.ChoiceField(choices=VERDICTS, allow_null=True, help_text="The one that is in the way.")
    approvals = serializers.IntegerField(help_text="Of other people, to leave the step.")
    step = serializers.BooleanField(help_text="No step follows.")
    is_stopped = serializers.BooleanField(help_text="By a kill switch.")
    withheld = serializers.ListField(
        child=serializers.IntegerField(),
        help_text="Versions of arms below the model's minimum release counter: devices are told nothing of it.",
    )


class StatusSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=STATES)
    state_reason = serializers.CharField(allow_blank=True)
    awaiting = serializers.CharField(allow_blank=True)
    halted_classes = serializers.ListField(child=serializers.CharField())
    phase = serializers.IntegerField(allow_null=True)
    phase_since = serializers.DateTimeField(allow_null=True)
    percent_bp = serializers.IntegerField(allow_null=True)
    step = serializers.IntegerField(allow_null=True)
    steps = serializers.IntegerField()
    step_since = serializers.DateTimeField(allow_null=True)
    decision = serializers.ChoiceField(choices=VERDICTS)
    reasons = serializers.ListField(child=serializers.CharField())
    lacking = LackingSerializer(allow_null=True, help_text="Before the plan goes on; null while it does not run.")
    analysed_at = serializers.DateTimeField(allow_null=True)
    next_action_at = serializers.DateTimeField(allow_null=True)
    arms = ArmStatusSerializer(many=True)


class ResultsQuery(PageQuery):
    phase = serializers.IntegerField(required=False, min_value=1, max_value=MOST_PHASES)


class AnalysisRunSerializer(serializers.ModelSerializer[AnalysisRun]):
    phase = serializers.IntegerField(source="phase.number")
    results = serializers.JSONField(help_text="arms, srm, metrics, final; see the guide to experiments")
    reasons = serializers.ListField(child=serializers.CharField(), help_text="worst first")
    classes = serializers.ListField(child=serializers.CharField(), help_text="to be halted")

    class Meta:
        model = AnalysisRun
        fields = ["id", "as_of", "phase", "verdict", "reasons", "classes", "units", "inputs_hash", "results", "error"]


class BaselineSerializer(serializers.Serializer[Any]):
    units = serializers.IntegerField(help_text="It was measured on.")
    shares = serializers.DictField(child=serializers.FloatField(), help_text="Of units with an event, by guardrail.")
    log_deviation = serializers.FloatField(help_text="Of one device's log p95.")
    is_assumed = serializers.BooleanField(help_text="Too little was measured of the model on the channel.")


class SightSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    measure = serializers.CharField()
    harm = serializers.FloatField(allow_null=True, help_text="The least that trips; null: none would.")
    words = serializers.CharField()


class ForeseenStepSerializer(serializers.Serializer[Any]):
    percent_bp = serializers.IntegerField()
    treatment_units = serializers.IntegerField()
    control_units = serializers.IntegerField()
    min_units = serializers.IntegerField()
    is_reachable = serializers.BooleanField(help_text="The step's arms can have the units that its plan asks for.")
    guardrails = SightSerializer(many=True)


class NeedSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    measure = serializers.CharField()
    harm = serializers.FloatField(help_text="Twice the margin.")
    words = serializers.CharField()
    units_per_arm = serializers.IntegerField(allow_null=True, help_text="That would show it; null: no number would.")


class DetectableSerializer(serializers.Serializer[Any]):
    units = serializers.IntegerField(help_text="That reported of the model in 30 days.")
    is_sample = serializers.BooleanField(help_text="There are more units than were looked at.")
    baseline = BaselineSerializer()
    steps = ForeseenStepSerializer(many=True)
    needed = NeedSerializer(many=True)


class DrawnSerializer(serializers.Serializer[Any]):
    bucket = serializers.IntegerField()
    range = BucketRange()
    inside = serializers.BooleanField()


class DrawnArmSerializer(serializers.Serializer[Any]):
    bucket = serializers.IntegerField()
    name = serializers.CharField(allow_null=True)


class UnitSerializer(serializers.Serializer[Any]):
    unit_key = serializers.CharField(help_text="What overrides and the catalog call the unit by.")
    state = serializers.ChoiceField(choices=STATES)
    phase = serializers.IntegerField(allow_null=True)
    override = serializers.CharField(allow_null=True)
    holdback = DrawnSerializer(allow_null=True)
    layer = DrawnSerializer(allow_null=True)
    arm = DrawnArmSerializer(allow_null=True)
    outcome = serializers.ChoiceField(
        choices=["kill_switch", "override", "holdback", "outside_layer", "outside_arms", "in_arm", "not_served"]
    )


class ArmOverrideSerializer(serializers.ModelSerializer[Override]):
    class Meta:
        model = Override
        fields = ["unit_key", "arm", "reason", "set_by", "set_at", "expires_at"]


class HoldbackSerializer(serializers.ModelSerializer[Holdback]):
    channel = serializers.CharField(source="channel.slug")
    model = serializers.CharField(source="model.slug")
    version = serializers.IntegerField(source="version.number")
    range = BucketRange(source="span")

    preview = PreviewSerializer(allow_null=True, default=None, help_text="Of a request with validate_only.")

    class Meta:
        model = Holdback
        fields = ["channel", "model", "version", "percent_bp", "range", "until", "preview"]


class LayerSerializer(serializers.ModelSerializer[Layer]):
    channel = serializers.CharField(source="channel.slug")
    model = serializers.CharField(source="model.slug")

    class Meta:
        model = Layer
        fields = ["id", "slug", "channel", "model", "epoch"]


class HeldSerializer(serializers.Serializer[Any]):
    experiment = serializers.CharField()
    range = BucketRange()
    since = serializers.DateTimeField()
    is_rollout = serializers.BooleanField()


class LayerMapSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    channel = serializers.CharField()
    model = serializers.CharField()
    salt = serializers.CharField()
    held = HeldSerializer(many=True)
    free = serializers.ListField(child=BucketRange())
