"""Situations of releasing and publishing, sorted into the registry's five families."""

from registry.errors import Conflict, Invalid, NotAllowed, NotFound, Unavailable


class ConversionsUnfinished(Conflict):
    code = "conversions_unfinished"


class NothingToRelease(Conflict):
    """The version has no variant that a device could install."""

    code = "nothing_to_release"


class GatesMissed(Conflict):
    """No variant keeps to the model's gates, or a required one is lacking; the message names each miss."""

    code = "gates_missed"


class AlreadyReleased(Conflict):
    code = "already_released"


class NoEarlierRelease(Conflict):
    code = "no_earlier_release"


class KillSwitchEngaged(Conflict):
    code = "kill_switch_engaged"


class KillSwitchNotEngaged(Conflict):
    code = "kill_switch_not_engaged"


class MinimumWouldFall(Invalid):
    code = "minimum_would_fall"


class ReleasedBytesDiffer(Unavailable):
    """Bytes in the store are not what was registered. Nothing is signed until the store is mended."""

    code = "released_bytes_differ"


class RevisionOvertaken(Unavailable):
    """The publisher stalled and another one went on; its work is void."""

    code = "revision_overtaken"


class ReleaseNotFound(NotFound):
    code = "release_not_found"


class RootNotSigned(Unavailable):
    code = "root_not_signed"


class KeyNotInRoot(Unavailable):
    """The server holds no key that the root names: nobody would believe what it signs. A ceremony must name one."""

    code = "key_not_in_root"


class OfflineTargetsRefused(Invalid):
    """Targets signed elsewhere say other things than the rows, or less than devices have already."""

    code = "offline_targets_refused"


class RootOrphansTargets(Conflict):
    """Under the new root nobody would believe the targets: sign them with its key first, or send them along."""

    code = "root_orphans_targets"


class RoleHeldHere(Conflict):
    """The server makes this role's key itself."""

    code = "role_held_here"


class NotReleased(NotFound):
    """No release of the model is at devices of the channel."""

    code = "not_released"


class EmbeddedFileUnknown(Invalid):
    """Bytes are named by a digest that no file of the application has."""

    code = "embedded_file_unknown"


class ApprovalRequired(Conflict):
    """Others must approve it first: make a release request."""

    code = "approval_required"


class OwnRequest(NotAllowed):
    """Whoever wrote or edited a request cannot approve it."""

    code = "own_request"


class AlreadyApproved(Conflict):
    code = "already_approved"


class RequestClosed(Conflict):
    """The request was done, cancelled or has failed."""

    code = "request_closed"


class AlreadyPinned(Conflict):
    """The unit has a pin for this model and channel: remove it first."""

    code = "already_pinned"


class EnrolmentRefused(Invalid):
    """The token is unknown, was used, or is too old; which of these, nobody is told."""

    code = "enrolment_refused"


class NoFallback(Conflict):
    """The application's last device class has a condition: some devices would find no class."""

    code = "no_fallback"


class RuntimeTooOld(Conflict):
    """A device class offers a variant to runtimes that cannot run its file."""

    code = "runtime_too_old"


class PartYanked(Conflict):
    """A bundle holds a part of a version that was yanked since: register it with another one."""

    code = "part_yanked"


class NativeCode(Conflict):
    """A file of the variant is a program or library."""

    code = "native_code"
