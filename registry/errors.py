"""What can go wrong in a service, sorted by who must act.

Five families, each mapped once to an HTTP status in `deploy/problems.py`. Services raise a subclass named after the
situation, with a stable `code`; its message says what was expected and what came.
"""


class DomainError(Exception):
    """A rule of the domain was broken. `code` is stable and documented, the message is for people."""

    code = "error"
    field: str | None = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Invalid(DomainError):
    """The caller sent something that cannot be right (400)."""

    code = "invalid"


class NotAllowed(DomainError):
    """The caller may not do this (403)."""

    code = "not_allowed"


class NotFound(DomainError):
    """What was named does not exist (404)."""

    code = "not_found"


class Conflict(DomainError):
    """What was asked does not fit the present state (409)."""

    code = "conflict"


class Unavailable(DomainError):
    """A part that is needed does not answer; trying later is right (503)."""

    code = "unavailable"


class UploadTooLarge(Invalid):
    code = "upload_too_large"


class UploadDigestMismatch(Invalid):
    code = "upload_digest_mismatch"


class UploadEmpty(Invalid):
    code = "upload_empty"


class UploadIncomplete(Invalid):
    """Fewer bytes came than the request announced."""

    code = "upload_incomplete"


class SourceRefused(Invalid):
    """The source model or evaluation set cannot be accepted; the message says what to change."""

    code = "source_refused"


class UnknownRecipe(Invalid):
    code = "unknown_recipe"


class UnknownProfile(Invalid):
    """The model has no conversion profile of that name."""

    code = "unknown_profile"


class MetadataRefused(Invalid):
    """The metadata cannot be written into a model; the message says what to change."""

    code = "metadata_refused"


class BundleRefused(Invalid):
    """These files or parts cannot stand in one bundle; the message says what to change."""

    code = "bundle_refused"


class PartUnfinished(Conflict):
    """A version that is named as a part is still being converted."""

    code = "part_unfinished"


class GatesRefused(Invalid):
    """These gates say nothing that can be checked; the message says what to change."""

    code = "gates_refused"


class RecipesRequested(Conflict):
    """The version has all of these recipes already."""

    code = "recipes_requested"


class JobFinished(Conflict):
    code = "job_finished"


class JobNotRetryable(Conflict):
    """The job is not done, or there is nothing to try again."""

    code = "job_not_retryable"


class NothingToOverride(Conflict):
    """The variant misses no gate that is not overridden already."""

    code = "nothing_to_override"


class ReproductionRunning(Conflict):
    code = "reproduction_running"


class UploadInUse(Conflict):
    """A version was registered with these bytes."""

    code = "upload_in_use"


class NameTaken(Conflict):
    code = "name_taken"


class AlreadyMember(Conflict):
    code = "already_member"


class IfMatchMissing(Invalid):
    """A change of something that others may change too must say which state it was made from (428)."""

    code = "if_match_missing"


class Stale(Conflict):
    """Somebody else changed it since the caller looked (412): look again, then decide."""

    code = "stale"


class IdempotencyKeyReused(Conflict):
    """The key stands for another request: a new request needs a new key."""

    code = "idempotency_key_reused"


class IdempotencyKeyBusy(Conflict):
    """The first request of this key is still being answered: ask again."""

    code = "idempotency_key_busy"


class WebhookRefused(Invalid):
    """Webhooks cannot go to this address, or not of such events; the message says why."""

    code = "webhook_refused"


class WebhookDisabled(Conflict):
    """Nothing is sent to the webhook any more, until somebody changes it."""

    code = "webhook_disabled"


class VersionYanked(Conflict):
    code = "version_yanked"


class SecretUnreadable(Unavailable):
    """A secret was sealed with a secret key that this server no longer has."""

    code = "secret_unreadable"


class StoreUnavailable(Unavailable):
    """The object storage does not answer, or refuses the credentials or the bucket."""

    code = "store_unavailable"


class BlobMissing(Unavailable):
    """Bytes that a row refers to are not in the store: restore the store or point at the right one."""

    code = "blob_missing"
