"""What experiments need of the layer above, which serves devices and which they may not import.

`distribution` hands its functions over when it starts (`DistributionConfig.ready`). They run in the caller's
transaction: an experiment that is completed and the release that comes of it stand together or not at all.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from registry.models import Application, Channel, ModelVersion, RegisteredModel


class Delivery(Protocol):
    def current_version(self, channel: Channel, model: RegisteredModel) -> ModelVersion | None:
        """The current release's; None where devices run the model embedded in their app."""
        ...

    def offer(self, *, channel: Channel, version: ModelVersion, actor: str, now: datetime, reason: str) -> None:
        """Let the publisher sign the version, so that an arm can have it. Raises as releasing it would."""
        ...

    def make_current(self, *, channel: Channel, version: ModelVersion, actor: str, now: datetime, reason: str) -> None:
        """Release it to the whole channel, unless it is current already."""
        ...

    def served_version(self, channel: Channel, model: RegisteredModel) -> ModelVersion | None:
        """Of the versions in use the one that devices had last as their release; None: the embedded model."""
        ...

    def is_stopped(self, channel: Channel, model: RegisteredModel) -> bool:
        """Whether a kill switch sends every device to the model embedded in its app."""
        ...

    def withheld(self, model: RegisteredModel, numbers: Collection[int]) -> list[int]:
        """Those of the versions that lie below the model's minimum release counter: no device may have them again."""
        ...

    def approvals_required(self, channel: Channel) -> int:
        """How many other people must approve what the channel gets."""
        ...

    def unit_key(self, application: Application, unit: str) -> str:
        """What the catalog calls a unit by. Raises `Invalid` for what is no unit."""
        ...

    def forget_unit(self, application: Application, unit: str, now: datetime) -> int:
        """Delete what stands under its key: pins, test devices, attested keys. How many. Raises `Invalid`."""
        ...

    def request_publish(self, application: Application, reason: str, now: datetime) -> None:
        """Write a `PublishRequest`, and run publishing when the transaction stands."""
        ...


class _Provided:
    delivery: Delivery | None = None


def provide(delivery: Delivery) -> None:
    """Called once at start-up."""
    _Provided.delivery = delivery


def delivery() -> Delivery:
    """Raises RuntimeError in a process without the app that serves devices."""
    if _Provided.delivery is None:
        raise RuntimeError("expected the distribution app to be installed, it handed over no delivery")
    return _Provided.delivery
