"""What can go wrong on a device, grouped by who must act.

`code` is stable and travels in events; `stage` is the step of the funnel (protocol, section 8) that was not passed.
"""

from typing import ClassVar


class AerogramError(Exception):
    """Anything this package raises on purpose."""

    code: ClassVar[str] = "internal"
    stage: ClassVar[str] = "assigned"


class Unavailable(AerogramError):
    """Nobody must act: the network or the server is away, or the moment is wrong; a later try may succeed."""

    def __init__(self, message: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Untrusted(AerogramError):
    """The operator must act: what the server sent is not what the publisher and the channel signed."""

    stage = "verify"


class PerhapsStale(Untrusted):
    """A cache or a publication in progress can cause it as well: refused only after one more refresh and poll."""


class Unsuitable(AerogramError):
    """The team that publishes the model must act: it is genuine, and does not work in this app or on this device."""


class DeviceTrouble(AerogramError):
    """The device's owner must act."""


class Misuse(AerogramError):
    """The app's developer must act."""


# -- Unavailable


class PollFailed(Unavailable):
    """The poll got no answer, or one other than 200 and 304."""

    code = "poll_failed"
    stage = "assigned"

    def __init__(self, message: str, *, status: int | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.status = status


class PollMalformed(Unavailable):
    """The poll's answer is not the JSON of protocol section 1."""

    code = "poll_malformed"
    stage = "assigned"


class TrustUnavailable(Unavailable):
    """Trust metadata could not be fetched."""

    code = "trust_unavailable"
    stage = "offered"


class HeldBack(Unavailable):
    """No newer trust metadata for a day: the device was offline so long, or somebody holds it back."""

    code = "held_back"
    stage = "offered"


class PolicyDeferred(Unavailable):
    """The manifest's policy does not allow the download under the present conditions."""

    code = "policy_deferred"
    stage = "offered"


class DownloadUnavailable(Unavailable):
    """A file's request was refused or never answered."""

    code = "download_unavailable"
    stage = "download"


class DownloadTruncated(Unavailable):
    """A file ended before its listed length. What arrived is kept and continued next time."""

    code = "download_truncated"
    stage = "download"


class PatchFailed(Unavailable):
    """A patch could not be had, or did not make the file; the file is fetched whole instead."""

    code = "patch_failed"
    stage = "download"


class KeyUnavailable(Unavailable):
    """The key service is away, or did not answer this request."""

    code = "key_unavailable"
    stage = "unpack"


# -- Untrusted: trust metadata


class MetadataExpired(Untrusted):
    code = "metadata_expired"


class MetadataRolledBack(Untrusted):
    code = "metadata_rolled_back"


class MetadataUnsigned(Untrusted):
    """Fewer valid signatures than the role's threshold."""

    code = "metadata_unsigned"


class MetadataInvalid(Untrusted):
    code = "metadata_invalid"


# -- Untrusted: the catalog


class CatalogMalformed(Untrusted):
    """Signed, and still nothing that this version can decide from."""

    code = "catalog_malformed"


# -- Untrusted: the manifest


class ManifestMalformed(Untrusted):
    code = "manifest_malformed"


class ManifestUnsigned(Untrusted):
    """Fewer valid signatures by the channel's release keys than the role's threshold."""

    code = "manifest_unsigned"


class ManifestWrongApplication(Untrusted):
    code = "manifest_wrong_application"


class ManifestWrongChannel(Untrusted):
    code = "manifest_wrong_channel"


class ManifestWrongModel(Untrusted):
    code = "manifest_wrong_model"


class ManifestExpired(PerhapsStale):
    code = "manifest_expired"


class ManifestReplayed(PerhapsStale):
    """Older than a manifest this device has already accepted."""

    code = "manifest_replayed"


class ManifestNotCurrent(PerhapsStale):
    """Older than the channel's release index, or not in it, also after one more refresh and poll."""

    code = "manifest_not_current"


# -- Untrusted: files


class FileNotPublished(PerhapsStale):
    """The manifest names a file that the publisher's `targets` do not list."""

    code = "file_not_published"


class FileNotAsPublished(PerhapsStale):
    """The publisher's `targets` list the file with another length or hash."""

    code = "file_not_as_published"


class FileOfAnotherRelease(Untrusted):
    """The publisher's `targets` list the file for another model, version, variant or release counter."""

    code = "file_of_another_release"


class ReleaseWithdrawn(PerhapsStale):
    """The release counter is below the publisher's minimum for the model."""

    code = "release_withdrawn"


class DownloadTooLong(Untrusted):
    """The server offers more bytes than listed."""

    code = "download_too_long"
    stage = "download"


class HashMismatch(Untrusted):
    code = "hash_mismatch"


class DecryptionFailed(Untrusted):
    """What the publisher signed does not open with the key that the server gave; the message tells how."""

    code = "decryption_failed"
    stage = "unpack"


# -- Unsuitable


class RuntimeUnsupported(Unsuitable):
    code = "runtime_unsupported"
    stage = "offered"


class SchemaNotAccepted(Unsuitable):
    code = "schema_not_accepted"
    stage = "offered"


class BannedOnDevice(Unsuitable):
    """Failed here too often; refused without another try until app, OS or runtime change."""

    code = "banned_on_device"
    stage = "offered"


class EncryptionUnsupported(Unsuitable):
    """The model is encrypted in a way that this SDK does not know."""

    code = "encryption_unsupported"
    stage = "offered"


class KeyRefused(Unsuitable):
    """The server does not give the model's key to this installation; the message says why."""

    code = "key_refused"
    stage = "unpack"


class LoadFailed(Unsuitable):
    code = "load_failed"
    stage = "compile"


class LoadCrashed(Unsuitable):
    """The process died while it loaded or first ran the model; known from the trace it left."""

    code = "load_crashed"
    stage = "compile"


class SanityInvalid(Unsuitable):
    """The sanity vectors cannot be read, or do not fit the model."""

    code = "sanity_invalid"
    stage = "sanity"


class SanityMismatch(Unsuitable):
    code = "sanity_mismatch"
    stage = "sanity"


class FirstInferenceFailed(Unsuitable):
    code = "inference_failed"
    stage = "first_inference"


class InferenceFailed(Unsuitable):
    code = "inference_failed"
    stage = "inference"


# -- DeviceTrouble


class NoSpace(DeviceTrouble):
    code = "no_space"
    stage = "download"


class StoreFailed(DeviceTrouble):
    """The store's folder cannot be read or written."""

    code = "store_failed"
    stage = "unpack"


class BundleDamaged(DeviceTrouble):
    """An installed file is gone or changed; the next update brings it anew."""

    code = "bundle_damaged"
    stage = "compile"


# -- Misuse


class ModelNotAvailable(Misuse):
    """Neither an installed nor an embedded model can run."""

    code = "model_not_available"
    stage = "fallback"


class InputInvalid(Misuse, ValueError):
    """`run()` was given other names, shapes or types than the model takes."""

    code = "input_invalid"
    stage = "inference"


class PartUnknown(Misuse, LookupError):
    """`part()` was given a name that the bundle has no model under."""

    code = "part_unknown"
    stage = "inference"
