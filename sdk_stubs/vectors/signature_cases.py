"""Envelopes signed with ECDSA over P-256, and ones that a role of these keys did not sign."""  # noqa: INP001 - a folder of data with its scripts, no package

from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import SSlibKey

from distribution.canonical_json import canonical_bytes

SIGNED = {
    "_type": "aerogram-manifest",
    "version": 7,
    "model": "digits",
    "note": 'für "Ärzte"\n\U0001f680 and \uff61',
    "\U0001f680": 1,
    "\uff61": 2,
}
# Nobody's keys: their secret is a sentence that stands here, so that the file can be made again.
SECRETS = {name: f"aerogram test vector, key {name}" for name in ("one", "two", "other")}


def signatures() -> dict[str, Any]:
    keys = {name: _key(ec.SECP256R1(), secret) for name, secret in SECRETS.items()}
    public = {name: SSlibKey.from_crypto(key.public_key()) for name, key in keys.items()}
    ids = {name: key.keyid for name, key in public.items()}
    curve = _key(ec.SECP384R1(), "aerogram test vector, key of another curve")
    listed = {key.keyid: key.to_dict() for key in public.values()}
    listed["curve"] = SSlibKey.from_crypto(curve.public_key()).to_dict() | {"scheme": "ecdsa-sha2-nistp256"}
    listed["scheme"] = public["one"].to_dict() | {"scheme": "ecdsa-sha2-nistp384"}
    listed["damaged"] = public["one"].to_dict() | {"keyval": {"public": "-----BEGIN PUBLIC KEY-----\nMFk\n"}}
    one, two, other = (_signature(keys[name], ids[name]) for name in SECRETS)
    bad = {"keyid": ids["one"], "sig": one["sig"][:-2] + f"{int(one['sig'][-2:], 16) ^ 1:02x}"}
    accepted = [
        _case("one of one", [ids["one"]], 1, [one]),
        _case("two of two", [ids["one"], ids["two"]], 2, [one, two]),
        _case("one of two", [ids["one"], ids["two"]], 1, [two]),
        _case("beside a stranger's", [ids["one"]], 1, [other, one]),
        _case("beside a bad one of another key", [ids["one"], ids["two"]], 1, [bad, two]),
        _case("beside keys that are not known", ["curve", "scheme", "damaged", ids["one"]], 1, [one]),
    ]
    refused = [
        _case("nobody's", [ids["one"]], 1, []),
        _case("a stranger's", [ids["one"]], 1, [other]),
        _case("a stranger's under a known id", [ids["one"]], 1, [other | {"keyid": ids["one"]}]),
        _case("one short of the threshold", [ids["one"], ids["two"]], 2, [one]),
        _case("one key twice", [ids["one"], ids["two"]], 2, [one, one]),
        _case("a flipped bit", [ids["one"]], 1, [bad]),
        _case("another document", [ids["one"]], 1, [one], SIGNED | {"version": 8}),
        _case("a member more", [ids["one"]], 1, [one], SIGNED | {"colour": "blue"}),
        _case("no hex", [ids["one"]], 1, [one | {"sig": "xyz"}]),
        _case("an odd number of digits", [ids["one"]], 1, [one | {"sig": one["sig"][:-1]}]),
        _case("empty", [ids["one"]], 1, [one | {"sig": ""}]),
        _case("another curve", ["curve"], 1, [_signature(curve, "curve")]),
        _case("another scheme", ["scheme"], 1, [one | {"keyid": "scheme"}]),
    ]
    return {"keys": listed, "accepted": accepted, "refused": refused}


def _key(curve: ec.EllipticCurve, secret: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(sha256(secret.encode()).digest()), curve)


def _signature(key: ec.EllipticCurvePrivateKey, keyid: str) -> dict[str, str]:
    # Deterministic (RFC 6979), so that the vectors are the same whenever they are made.
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return {"keyid": keyid, "sig": key.sign(canonical_bytes(SIGNED), algorithm).hex()}


def _case(
    name: str,
    keyids: list[str],
    threshold: int,
    listed: list[dict[str, str]],
    signed: dict[str, Any] | None = None,
) -> dict[str, Any]:
    envelope = {"signed": signed or SIGNED, "signatures": listed}
    return {"name": name, "keyids": keyids, "threshold": threshold, "envelope": envelope}
