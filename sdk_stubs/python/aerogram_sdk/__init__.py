"""Device SDK of Aerogram."""

from aerogram_sdk.client import AerogramClient
from aerogram_sdk.errors import AerogramError
from aerogram_sdk.manifest import SignatureSchema, TensorSpec
from aerogram_sdk.opener import EmbeddedModel, EmbeddedPart, OpenModel, OpenPart
from aerogram_sdk.profile import DeviceProfile
from aerogram_sdk.runtimes import LiteRtRuntime
from aerogram_sdk.selector import Conditions
from aerogram_sdk.updater import UpdateOutcome

__all__ = [
    "AerogramClient",
    "AerogramError",
    "Conditions",
    "DeviceProfile",
    "EmbeddedModel",
    "EmbeddedPart",
    "LiteRtRuntime",
    "OpenModel",
    "OpenPart",
    "SignatureSchema",
    "TensorSpec",
    "UpdateOutcome",
]
