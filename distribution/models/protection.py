"""Rows about protected models: which are, under which keys their files lie encrypted, and who was given a key."""

from django.db import models
from django.db.models.expressions import Value

from registry.models import Application, Artifact, RegisteredModel, Variant
from registry.models.applications import RowVersionField


class ModelProtection(models.Model):
    """Whether versions of the model are published encrypted. It decides when a version is first released, for good."""

    model = models.OneToOneField(RegisteredModel, models.CASCADE, related_name="protection")
    is_on = models.BooleanField(default=False)
    row_version = RowVersionField()

    def __str__(self) -> str:
        return f"protection of {self.model}: {'on' if self.is_on else 'off'}"


class AttestationSettings(models.Model):
    """What an installation of the application must prove before it is given a key. Without a row: anything, in vain.

    `play_decryption_key`: Google's, wrapped under the key-encryption key `play_kek_id`.
    """

    class Mode(models.TextChoices):
        REQUIRED = "required"
        NONE = "none"  # whoever asks is given the key

    application = models.OneToOneField(Application, models.CASCADE, related_name="attestation")
    mode = models.CharField(max_length=20, choices=Mode.choices, default=Mode.REQUIRED)
    apple_app_id = models.CharField(max_length=200, blank=True, default="")
    apple_production = models.BooleanField(default=True)
    play_package_name = models.CharField(max_length=200, blank=True, default="")
    play_verification_key = models.TextField(blank=True, default="")
    play_decryption_key = models.BinaryField(null=True, blank=True, editable=False)
    play_kek_id = models.CharField(max_length=16, blank=True, default="")
    play_certificates = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    play_verdict = models.CharField(max_length=40, default="MEETS_DEVICE_INTEGRITY")
    row_version = RowVersionField()

    class Meta:
        verbose_name_plural = "attestation settings"

    def __str__(self) -> str:
        return f"attestation of {self.application}: {self.mode}"


class ContentKey(models.Model):
    """What files of one content are encrypted with, for one model. Only wrapped; `kek_id` names what with."""

    key_id = models.CharField(max_length=32, unique=True)
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="content_keys")
    contents_sha256 = models.CharField(max_length=64)
    kek_id = models.CharField(max_length=16)
    wrapped = models.BinaryField()
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=150, blank=True, default="")
    revoke_reason = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "contents_sha256"],
                condition=models.Q(revoked_at__isnull=True),
                name="one_key_in_use_per_contents",
            )
        ]

    def __str__(self) -> str:
        return self.key_id

    @property
    def context(self) -> str:
        """What it is wrapped for: a wrapped key moved to another row opens nothing."""
        return f"content key {self.key_id}"


class EncryptedVariant(models.Model):
    """A variant all of whose files lie encrypted in the store. Never edited: its hashes are signed."""

    variant = models.OneToOneField(Variant, models.PROTECT, related_name="encrypted")
    content_key = models.ForeignKey(ContentKey, models.PROTECT, related_name="variants")
    encrypted_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.variant} under {self.content_key}"


class EncryptedFile(models.Model):
    """The encrypted bytes of some file under some key."""

    content_key = models.ForeignKey(ContentKey, models.PROTECT, related_name="files")
    plaintext = models.ForeignKey(Artifact, models.PROTECT, related_name="+")
    artifact = models.ForeignKey(Artifact, models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["content_key", "plaintext"], name="encrypted_once_per_key")]

    def __str__(self) -> str:
        return f"{self.plaintext} under {self.content_key}"


class AppAttestKey(models.Model):
    """A key of a phone's Secure Enclave that Apple attested, of one unit. `counter`: of its last assertion."""

    application = models.ForeignKey(Application, models.CASCADE, related_name="app_attest_keys")
    attest_key_id = models.CharField(max_length=64)
    unit_key = models.CharField(max_length=64)
    public_key = models.BinaryField()
    counter = models.PositiveBigIntegerField(default=0)
    attested_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "attest_key_id"], name="attested_once")]

    def __str__(self) -> str:
        return self.attest_key_id[:12]


class KeyCall(models.Model):
    """One call for a key that came with a genuine challenge, and what became of it. Holds no key and no unit.

    `unit_key` is SHA-256(salt:unit), as in catalogs. `outcome`: `released`, or the code of the refusal.
    """

    application = models.ForeignKey(Application, models.CASCADE, related_name="key_calls")
    content_key = models.ForeignKey(ContentKey, models.PROTECT, related_name="calls")
    channel = models.CharField(max_length=63)
    unit_key = models.CharField(max_length=64)
    attestation = models.CharField(max_length=20, blank=True, default="")
    outcome = models.CharField(max_length=40)
    reason = models.CharField(max_length=40, blank=True, default="")
    challenge_sha256 = models.CharField(max_length=64, unique=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["application", "unit_key", "at"], name="key_calls_of_unit")]

    def __str__(self) -> str:
        return f"call {self.pk}: {self.outcome}"
