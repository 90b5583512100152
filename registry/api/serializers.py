"""What all bodies share; applications and who may touch them, channels, tokens, device classes, the log.

Names and bounds of what is sent and answered. Rules are the services' business.
"""

from typing import Any

from rest_framework import serializers

from registry.api.pages import PageQuery
from registry.models import (
    ApiToken,
    Application,
    AuditEntry,
    Channel,
    DeviceClass,
    Membership,
    Role,
)
from registry.models.applications import slug_validator

ROLES = {role.label: role for role in Role}
ROLE_CHOICES = [(label, label) for label in ROLES]


class Body(serializers.Serializer[Any]):
    """What is sent. A member that nobody reads is refused: it may be a misspelt one that matters."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            expected = ", ".join(self.fields)
            raise serializers.ValidationError({unknown[0]: [f"expected members among {expected}, got {unknown[0]!r}"]})
        return super().to_internal_value(data)


class RoleField(serializers.ChoiceField):
    """A role by its name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=ROLE_CHOICES, **options)

    def to_internal_value(self, data: Any) -> Role:  # type: ignore[override]
        return ROLES[super().to_internal_value(data)]

    def to_representation(self, value: Any) -> str:
        return Role(value).label


class Problem(serializers.Serializer[Any]):
    """RFC 9457."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    field = serializers.CharField(required=False)


# Applications --------------------------------------------------------------------------------------------------------
class ApplicationSerializer(serializers.ModelSerializer[Application]):
    channels = serializers.SlugRelatedField("slug", many=True, read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = Application
        fields = ["slug", "name", "created_at", "channels"]


class ApplicationRequest(Body):
    slug = serializers.CharField(validators=[slug_validator])
    name = serializers.CharField(max_length=200)


class NameRequest(Body):
    name = serializers.CharField(max_length=200)


class MembershipSerializer(serializers.ModelSerializer[Membership]):
    user = serializers.CharField(source="user.username")
    role = RoleField()

    class Meta:
        model = Membership
        fields = ["user", "role"]


class MembershipRequest(Body):
    user = serializers.CharField(max_length=150)
    role = RoleField()


class RoleRequest(Body):
    role = RoleField()


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    class Meta:
        model = Channel
        fields = ["slug", "created_at"]


class ChannelRequest(Body):
    slug = serializers.CharField(validators=[slug_validator])


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    role = RoleField()
    application = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)  # type: ignore[var-annotated]

    class Meta:
        model = ApiToken
        fields = ["id", "name", "role", "application", "created_at", "expires_at"]


class NewTokenSerializer(TokenSerializer):
    token = serializers.CharField(help_text="Shown this once.")

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]


class TokenRequest(Body):
    name = serializers.CharField(max_length=100)
    role = RoleField(help_text="The most that the token may do, whatever its user may.")
    application = serializers.CharField(
        max_length=63, required=False, allow_null=True, default=None, help_text="Only there; without it, everywhere."
    )
    expires_at = serializers.DateTimeField(help_text="At most 366 days from now.")


# Device classes ------------------------------------------------------------------------------------------------------
class DeviceClassSerializer(serializers.ModelSerializer[DeviceClass]):
    selector = serializers.DictField()
    variants = serializers.ListField(child=serializers.CharField())
    delegate_order = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = DeviceClass
        fields = ["name", "position", "selector", "variants", "delegate_order"]


class DeviceClassRequest(Body):
    name = serializers.CharField(validators=[slug_validator])
    position = serializers.IntegerField(min_value=0, max_value=10_000, required=False)
    selector = serializers.DictField(required=False, default=dict)
    variants = serializers.ListField(child=serializers.CharField(max_length=63), min_length=1, max_length=50)
    delegate_order = serializers.ListField(
        child=serializers.CharField(max_length=20), required=False, default=list, max_length=20
    )


class OrderRequest(Body):
    order = serializers.ListField(
        child=serializers.CharField(max_length=63), max_length=1000, help_text="The names of all classes, first first."
    )


class ProfileRequest(Body):
    """What a device says of itself."""

    os = serializers.CharField(max_length=40)
    os_version = serializers.CharField(max_length=64, required=False, allow_blank=True, default="")
    app_version = serializers.CharField(max_length=64, required=False, allow_blank=True, default="")
    runtime = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    runtime_version = serializers.CharField(max_length=64, required=False, allow_blank=True, default="")
    device = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")
    soc = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")
    ram_mb = serializers.IntegerField(min_value=1, max_value=2**31, required=False, allow_null=True, default=None)
    accelerators = serializers.ListField(
        child=serializers.CharField(max_length=40), max_length=20, required=False, default=list
    )


class MismatchSerializer(serializers.Serializer[Any]):
    device_class = serializers.CharField()
    why_not = serializers.CharField()


class MatchSerializer(serializers.Serializer[Any]):
    device_class = serializers.CharField(allow_null=True)
    variants = serializers.ListField(child=serializers.CharField())
    earlier = MismatchSerializer(many=True)


# Models --------------------------------------------------------------------------------------------------------------
class ReasonRequest(Body):
    reason = serializers.CharField(max_length=1000)


# Audit log -----------------------------------------------------------------------------------------------------------
class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)

    class Meta:
        model = AuditEntry
        fields = [
            "id",
            "at",
            "actor",
            "verb",
            "application",
            "subject",
            "before",
            "after",
            "reason",
            "entry_hash",
        ]


class AuditQuery(PageQuery):
    verb = serializers.CharField(max_length=63, required=False)
    actor = serializers.CharField(max_length=150, required=False)
    subject = serializers.CharField(max_length=255, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False, help_text="Exclusive.")
