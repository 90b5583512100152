"""Situations of the Firebase-compatible admin API, with Google's words where public clients read them."""

from distribution.firebase import wire
from registry.errors import Conflict, Invalid, NotFound


class FirebaseInvalid(Invalid):
    """A field, filter, mask or address is not as the API documents it."""

    code = "firebase_invalid"


class FirebaseModelNotFound(NotFound):
    code = "firebase_model_not_found"


class FirebaseNameTaken(Conflict):
    code = "firebase_name_taken"


class FirebaseNotVerified(Conflict):
    """The model has no file that devices could load."""

    code = "firebase_not_verified"

    def __init__(self, detail: str) -> None:
        super().__init__(wire.NOT_VERIFIED)
        self.detail = detail


class FirebaseStopped(Conflict):
    """An operator's kill switch holds the model; publishing from outside does not lift it."""

    code = "firebase_stopped"


class FirebaseChannelMissing(Conflict):
    """The application has no channel of the name in the setting."""

    code = "firebase_channel_missing"
