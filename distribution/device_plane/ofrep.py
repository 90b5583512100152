"""The poll's decision in the words of OpenFeature's remote evaluation protocol (OFREP 0.3), for apps that use it.

A model `digits` is the flag `model.digits`; its variant is the arm that is served, `current`, or our reason. The value
says which version to run and where its manifest is: OFREP carries no signature, so a value never replaces the signed
manifest. Without a value an app's own default holds: held back, stopped, not eligible, or nothing released.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import Any, NamedTuple

from distribution.catalog import NAME
from distribution.decision import Decision, Reason, decide
from distribution.device_plane.asgi import JSON, Receive, Scope, Send, read_body, send_answer
from distribution.device_plane.poll import same_etag
from distribution.device_plane.problems import Problem
from distribution.device_plane.query import UNIT, profile_of
from distribution.device_plane.state import ChannelState
from registry.device_classes import DeviceProfile, Match

PREFIX = "model."
MOST_BODY_BYTES = 64 * 1024
LARGEST_VERSION = 10**15
# OFREP's word for each of ours.
REASONS = {
    Reason.CURRENT_RELEASE: "TARGETING_MATCH",
    Reason.ROLLOUT_TREATMENT: "SPLIT",
    Reason.ROLLOUT_CONTROL: "SPLIT",
    Reason.EXPERIMENT_ARM: "SPLIT",
    Reason.HOLDBACK: "SPLIT",
    Reason.OVERRIDE: "TARGETING_MATCH",
    Reason.HALTED: "SPLIT",
    Reason.KILL_SWITCH: "DISABLED",
    Reason.USE_EMBEDDED: "DEFAULT",
    Reason.NO_COMPATIBLE_VARIANT: "DEFAULT",
    Reason.FLOOR: "TARGETING_MATCH",
    Reason.NO_UNIT: "DEFAULT",
}
_OF_ARMS = frozenset({Reason.ROLLOUT_TREATMENT, Reason.ROLLOUT_CONTROL, Reason.EXPERIMENT_ARM, Reason.HOLDBACK})
_WITHOUT_VALUE = frozenset(
    {Reason.HOLDBACK, Reason.KILL_SWITCH, Reason.USE_EMBEDDED, Reason.NO_COMPATIBLE_VARIANT, Reason.UNKNOWN_MODEL}
)


class Evaluated(NamedTuple):
    status: int
    document: dict[str, Any]


class Context(NamedTuple):
    """Who asks. `current` maps a model's name to the version the device runs now."""

    unit: str | None
    profile: DeviceProfile
    current: Mapping[str, int]


class _Refused(Exception):
    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


async def answer(scope: Scope, receive: Receive, send: Send, state: ChannelState, key: str | None) -> None:
    """POST of one flag, or of all with `key` None, whose answer has an ETag. Raises Problem for a body too large."""
    headers = dict(scope["headers"])
    body = await read_body(headers, receive, MOST_BODY_BYTES)
    found = evaluate_all(state, body) if key is None else evaluate(state, key, body)
    content = json.dumps(found.document, separators=(",", ":")).encode()
    fields = [(b"cache-control", b"private, no-cache, no-transform")]
    if key is None and found.status == HTTPStatus.OK:
        etag = b'"%s"' % sha256(content).hexdigest().encode()
        fields.append((b"etag", etag))
        if same_etag(headers.get(b"if-none-match", b""), etag):
            await send_answer(send, 304, fields, b"")
            return
    fields += [(b"content-type", JSON), (b"content-length", b"%d" % len(content))]
    await send_answer(send, found.status, fields, content)


def evaluate(state: ChannelState, key: str, body: bytes) -> Evaluated:
    """One flag. 404 for one that is no model of the channel, 400 for a context that cannot be read."""
    try:
        context = read_context(body)
    except _Refused as error:
        return Evaluated(400, {"key": key, "errorCode": error.code, "errorDetails": str(error)})
    name = key.removeprefix(PREFIX)
    if not key.startswith(PREFIX) or name not in state.catalog.models:
        expected = f"the name of a model of {state.catalog.channel} after {PREFIX!r}"
        details = f"key: expected {expected}, got {key[:80]!r}"
        return Evaluated(404, {"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details})
    return Evaluated(200, _flag(state, name, context, _matched(state, context)))


def evaluate_all(state: ChannelState, body: bytes) -> Evaluated:
    """Every model of the channel."""
    try:
        context = read_context(body)
    except _Refused as error:
        return Evaluated(400, {"errorCode": error.code, "errorDetails": str(error)})
    matched = _matched(state, context)
    return Evaluated(200, {"flags": [_flag(state, name, context, matched) for name in sorted(state.catalog.models)]})


def read_context(body: bytes) -> Context:
    """`targetingKey` is the unit; the names of a poll's query are understood, others are left alone."""
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise _Refused("PARSE_ERROR", f"body: expected JSON, got {error}"[:200]) from None
    given = document.get("context", {}) if isinstance(document, dict) else None
    if not isinstance(given, dict):
        raise _Refused("INVALID_CONTEXT", "context: expected an object")
    try:
        return Context(_unit(given.get("targetingKey")), profile_of(given), _current(given.get("current") or {}))
    except Problem as problem:
        raise _Refused("INVALID_CONTEXT", problem.detail) from None


def _unit(given: object) -> str | None:
    if given is None or given == "":
        return None
    if not isinstance(given, str) or not UNIT.fullmatch(given):
        raise _Refused("INVALID_CONTEXT", "targetingKey: expected 1 to 128 characters of A-Z a-z 0-9 . _ : ~ -")
    return given


def _current(given: object) -> dict[str, int]:
    """Like `{"digits": 3}`."""
    if isinstance(given, dict) and all(NAME.fullmatch(name) and _is_version(given[name]) for name in given):
        return given
    raise _Refused("INVALID_CONTEXT", 'current: expected an object like {"digits": 3}')


def _is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_VERSION


def _matched(state: ChannelState, context: Context) -> Match:
    """As a poll does it: once for all models, and nobody reads why the other classes did not fit."""
    return Match(state.catalog.class_index.find(context.profile), ())


def _flag(state: ChannelState, name: str, context: Context, matched: Match) -> dict[str, Any]:
    current = context.current.get(name)
    decision = decide(context.profile, context.unit, name, state.catalog, current, matched=matched)
    value = _value(state, name, decision)
    return {
        "key": PREFIX + name,
        "reason": REASONS[decision.reason],
        "variant": _variant(decision, value),
        "metadata": decision.to_json(),
        **({} if value is None else {"value": value}),
    }


def _variant(decision: Decision, value: dict[str, Any] | None) -> str:
    """An arm only where its own version is served: an app that goes by it must not take a halted unit for treated."""
    if decision.arm is not None and decision.reason in _OF_ARMS:
        return decision.arm
    is_current = decision.reason is Reason.CURRENT_RELEASE or decision.reason is Reason.NO_UNIT
    return "current" if is_current and value is not None else decision.reason.value


def _value(state: ChannelState, name: str, decision: Decision) -> dict[str, Any] | None:
    reference = decision.manifest
    if reference is None or decision.version is None or decision.reason in _WITHOUT_VALUE:
        return None
    catalog = state.catalog
    return {
        "version": decision.version,
        "variant": decision.variant,
        "manifest_url": f"/v1/apps/{catalog.application}/channels/{catalog.channel}/manifests/{name}",
        "manifest_sha256": reference.sha256,
    }
