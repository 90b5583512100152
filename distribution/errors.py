"""Situations of releasing and publishing, sorted into the registry's five families."""

from registry.errors import Conflict, Invalid, NotFound, Unavailable


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
