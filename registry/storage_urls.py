"""Addresses that carry their own permission: presigned S3, CloudFront and Aerogram's own. Pure; time is passed in.

S3: Signature Version 4 in the query, as in Amazon S3's API reference, "Authenticating Requests: Using Query
Parameters". CloudFront: "Creating a signed URL using a canned policy" (RSA, SHA-1, as CloudFront demands).
Written out here because botocore's signer reads the clock itself; tests compare the two.
"""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

LIFETIME = timedelta(hours=6)  # background downloads of phones begin late
LONGEST_LIFETIME = timedelta(days=7)  # S3 accepts no longer one
MODEST_RSA_BITS = 2048
Verdict = Literal["ok", "expired", "bad"]

logger = logging.getLogger("aerogram.storage_urls")


@dataclass(frozen=True)
class S3Location:
    """A bucket, and a folder in it: `s3://bucket/prefix?region=eu-central-1&endpoint=https://s3.example.org`.

    `endpoint` names a server other than Amazon's; the bucket is then the first part of the path. `public_endpoint` is
    the address under which phones reach the same server, where that is another one.
    """

    bucket: str
    prefix: str = ""
    region: str = "us-east-1"
    endpoint: str | None = None
    public_endpoint: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError with what is wrong."""
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(given) - {"region", "endpoint", "public_endpoint"})
        if parts.scheme != "s3" or not parts.hostname or parts.username or parts.password or unknown:
            found = f"{', '.join(unknown)} in the query" if unknown else f"{parts.scheme}://{parts.hostname or ''}"
            raise ValueError(
                "expected s3://bucket/prefix?region=…&endpoint=…&public_endpoint=… and credentials in AWS_… variables, "
                f"got {found}"
            )
        for name in ("endpoint", "public_endpoint"):
            if name in given and not given[name].startswith(("http://", "https://")):
                raise ValueError(f"{name}: expected http://… or https://…, got {given[name]!r}")
        return cls(
            bucket=parts.netloc,  # in its own case
            prefix=unquote(parts.path).strip("/"),
            region=given.get("region") or "us-east-1",
            endpoint=given.get("endpoint") or None,
            public_endpoint=given.get("public_endpoint") or None,
        )

    @property
    def public(self) -> Self:
        """The location as phones see it."""
        return replace(self, endpoint=self.public_endpoint or self.endpoint)

    def key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def url(self, key: str) -> str:
        """The object's address without a signature; of the bucket itself for an empty key."""
        path = quote(key, safe="/~")
        if self.endpoint:
            return f"{self.endpoint.rstrip('/')}/{self.bucket}" + (f"/{path}" if path else "")
        if "." in self.bucket:  # its host name would not fit Amazon's certificate
            return f"https://s3.{self.region}.amazonaws.com/{self.bucket}/{path}"
        return f"https://{self.bucket}.s3.{self.region}.amazonaws.com/{path}"


@dataclass(frozen=True)
class Credentials:
    """`expires_at` is None for those that last."""

    access_key: str
    secret_key: str
    token: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key!r}, …)"


def presign(
    location: S3Location,
    key: str,
    credentials: Credentials,
    *,
    now: datetime,
    lifetime: timedelta = LIFETIME,
    method: str = "GET",
    query: Mapping[str, str] | None = None,
) -> str:
    """An address that whoever holds it may use once or often until `now` + `lifetime`.

    The address ends with the credentials, if these end earlier; then a warning is logged. `Range` and the conditional
    headers are not signed, so the client adds them as it likes. Raises ValueError for a lifetime that S3 refuses.
    """
    if credentials.expires_at is not None and credentials.expires_at < now + lifetime:
        _warn_once(credentials.access_key, credentials.expires_at, lifetime)
    seconds = int(lifetime.total_seconds())
    if not 1 <= seconds <= LONGEST_LIFETIME.total_seconds():
        raise ValueError(f"lifetime: expected 1 s to 7 days, got {lifetime}")
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{location.region}/s3/aws4_request"
    signed = {
        **(query or {}),
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    url = location.url(key)
    canonical_query = "&".join(f"{quote(name, safe='~')}={quote(signed[name], safe='~')}" for name in sorted(signed))
    signature = _signature_v4(method, url, canonical_query, credentials.secret_key, stamp, scope)
    return f"{url}?{canonical_query}&X-Amz-Signature={signature}"


def _signature_v4(method: str, url: str, canonical_query: str, secret_key: str, stamp: str, scope: str) -> str:
    parts = urlsplit(url)
    request = f"{method}\n{parts.path or '/'}\n{canonical_query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()


@lru_cache(maxsize=64)
def _warn_once(access_key: str, end: datetime, lifetime: timedelta) -> None:
    """Once for each credentials, not for each download."""
    logger.warning(
        "presigned addresses end with the credentials %s at %s, expected them to last for %s",
        access_key,
        end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        lifetime,
    )


@dataclass(frozen=True)
class CloudFront:
    """A distribution in front of the bucket's `tree/`, which demands signed addresses.

    `base_url`: where it is reached; `key_pair_id`: the id of the public key in a trusted key group.
    """

    base_url: str
    key_pair_id: str
    private_key: rsa.RSAPrivateKey

    @classmethod
    def load(cls, base_url: str, key_pair_id: str, pem: bytes) -> Self:
        """Raises ValueError when `pem` is no private RSA key of 2048 bits."""
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MODEST_RSA_BITS:
            raise ValueError(f"expected a private RSA key of {MODEST_RSA_BITS} bits, got {type(key).__name__}")
        return cls(base_url.rstrip("/"), key_pair_id, key)

    def sign(self, path: str, *, now: datetime, lifetime: timedelta = LIFETIME) -> str:
        """`path` without a leading slash."""
        url = f"{self.base_url}/{quote(path, safe='/~')}"
        expires = int((now + lifetime).timestamp())
        condition = {"DateLessThan": {"AWS:EpochTime": expires}}
        policy = {"Statement": [{"Resource": url, "Condition": condition}]}
        text = json.dumps(policy, separators=(",", ":")).encode()
        signature = self.private_key.sign(text, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - CloudFront's choice
        encoded = base64.b64encode(signature).decode().translate(str.maketrans("+=/", "-_~"))
        return f"{url}?Expires={expires}&Signature={encoded}&Key-Pair-Id={quote(self.key_pair_id, safe='')}"


def sign(url: str, expires: datetime, key: bytes) -> str:
    """`url` with `expires` (seconds since 1970) and `signature` (HMAC-SHA256, hex) added to its query.

    The path and the query are signed, scheme and host are not, so that a proxy may change these. Raises ValueError
    for a key below 16 bytes or a URL that has these members.
    """
    if len(key) < 16:  # noqa: PLR2004
        raise ValueError(f"key: expected 16 bytes or more, got {len(key)}")
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if parts.fragment or {"expires", "signature"} & {name for name, _ in query}:
        raise ValueError("url: expected neither a fragment nor `expires` or `signature`, got one of them")
    query.append(("expires", str(int(expires.timestamp()))))
    signed = parts._replace(query=urlencode([*query, ("signature", _url_signature(parts.path, query, key))]))
    return signed.geturl()


def verify(url: str, key: bytes, *, now: datetime) -> Verdict:
    """`url` may lack scheme and host. An address that was never signed is `bad`, also when it looks expired."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not query or query[-1][0] != "signature":
        return "bad"
    given = query.pop()[1]
    if not hmac.compare_digest(given.encode(), _url_signature(parts.path, query, key).encode()):
        return "bad"
    name, expires = query[-1] if query else ("", "")
    if name != "expires" or not expires.isdigit():
        return "bad"
    return "ok" if now.timestamp() < int(expires) else "expired"


def _url_signature(path: str, query: list[tuple[str, str]], key: bytes) -> str:
    text = f"aerogram-url-1\n{path}\n{urlencode(query)}"
    return hmac.digest(key, text.encode(), "sha256").hex()
