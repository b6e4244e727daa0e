"""The service's two signature schemes: pure functions for signer and verifier, and the signers.

ROA (``acs``, HMAC-SHA1) is documented on the Content Moderation pages "Common parameters" and
"Signature"; V3 (``ACS3-HMAC-SHA256``) on "V3 request structure and signature" of Alibaba Cloud SDK,
and is what current SDKs send. Header mappings have lower-case names throughout; path and query
are decoded text, so that client libraries may spell their percent-encoding as they like.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

from worker.green.interface import Credential, Signer, Unsigned

V3_ALGORITHM = "ACS3-HMAC-SHA256"
JSON_TYPE = "application/json"


def roa_string_to_sign(
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    *,
    empty_value_sign: bool = True,
) -> str:
    """What HMAC-SHA1 is computed over.

    An empty query value is rendered ``k=`` as the legacy SDK does, or ``k`` as the Tea SDK does
    (``empty_value_sign=False``); the documentation does not say which the server expects.
    """
    lines = [method]
    lines += [headers.get(name, "") for name in ("accept", "content-md5", "content-type", "date")]
    lines += [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-acs-")]
    pairs = [f"{key}={value}" if value or empty_value_sign else key for key, value in sorted(query)]
    lines.append(path + ("?" + "&".join(pairs) if pairs else ""))
    return "\n".join(lines)


def roa_signature(string_to_sign: str, secret: str) -> str:
    """Base64 of HMAC-SHA1 keyed with the AccessKey secret as it is."""
    digest = hmac.new(secret.encode(), string_to_sign.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def content_md5(body: bytes) -> str:
    """The ``Content-MD5`` header: base64 of the body's MD5, part of the signed text in ROA."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def v3_canonical_request(  # noqa: PLR0917 (the canonical request's own six parts, in its order)
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    signed_headers: Sequence[str],
    payload_sha256: str,
) -> str:
    """The canonical request; ``payload_sha256`` is the hex digest of the body.

    A name in ``signed_headers`` that the request does not carry counts as an empty value, so that
    a verifier ends with a signature that does not match.
    """
    names = sorted(signed_headers)
    pairs = [f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in sorted(query)]
    canonical_headers = "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in names)
    return "\n".join(
        (
            method,
            quote(path, safe="/~"),
            "&".join(pairs),
            canonical_headers,
            ";".join(names),
            payload_sha256,
        )
    )


def v3_string_to_sign(canonical_request: str) -> str:
    """The algorithm's name and the canonical request's digest."""
    return f"{V3_ALGORITHM}\n{hashlib.sha256(canonical_request.encode()).hexdigest()}"


def v3_signature(string_to_sign: str, secret: str) -> str:
    """Hex of HMAC-SHA256 keyed with the AccessKey secret."""
    return hmac.new(secret.encode(), string_to_sign.encode(), hashlib.sha256).hexdigest()


class RoaSigner:
    """ROA headers as Content Moderation's "Common parameters" lists them, plus ``x-acs-action``."""

    def sign(self, unsigned: Unsigned, credential: Credential, now_us: int) -> dict[str, str]:
        md5, date = content_md5(unsigned.body), _http_date(now_us // 1_000_000)
        of_the_service = {
            "x-acs-signature-method": "HMAC-SHA1",
            "x-acs-signature-nonce": unsigned.nonce,
            "x-acs-signature-version": "1.0",
            "x-acs-version": unsigned.operation.version,
            "x-acs-action": unsigned.operation.action,
            **_token(credential),
        }
        lowered = {
            "accept": JSON_TYPE,
            "content-md5": md5,
            "content-type": JSON_TYPE,
            "date": date,
            **of_the_service,
        }
        text = roa_string_to_sign("POST", unsigned.operation.path, unsigned.query, lowered)
        signature = roa_signature(text, credential.access_key_secret)
        return {
            "Accept": JSON_TYPE,
            "Content-MD5": md5,
            "Content-Type": JSON_TYPE,
            "Date": date,
            **of_the_service,
            "Authorization": f"acs {credential.access_key_id}:{signature}",
            "Host": unsigned.host,
        }


class V3Signer:
    """ACS3-HMAC-SHA256 over host, every ``x-acs-`` header and, with a body, content-type."""

    def sign(self, unsigned: Unsigned, credential: Credential, now_us: int) -> dict[str, str]:
        payload_sha256 = hashlib.sha256(unsigned.body).hexdigest()
        now = datetime.fromtimestamp(now_us // 1_000_000, UTC)
        headers = {
            "host": unsigned.host,
            "x-acs-action": unsigned.operation.action,
            "x-acs-content-sha256": payload_sha256,
            "x-acs-date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": unsigned.nonce,
            "x-acs-version": unsigned.operation.version,
            **({"content-type": JSON_TYPE} if unsigned.body else {}),
            **_token(credential),
        }
        names = sorted(headers)
        canonical = v3_canonical_request(
            "POST", unsigned.operation.path, unsigned.query, headers, names, payload_sha256
        )
        signature = v3_signature(v3_string_to_sign(canonical), credential.access_key_secret)
        headers["Authorization"] = (
            f"{V3_ALGORITHM} Credential={credential.access_key_id},"
            f"SignedHeaders={';'.join(names)},Signature={signature}"
        )
        headers["Accept"] = JSON_TYPE
        return headers


@lru_cache(maxsize=2)
def _http_date(seconds: int) -> str:
    """The same for all requests of a second."""
    return formatdate(seconds, usegmt=True)


def signer_for(signature: Literal["roa", "v3"]) -> Signer:
    """The signer that ``settings.signature`` names."""
    return RoaSigner() if signature == "roa" else V3Signer()


def _token(credential: Credential) -> dict[str, str]:
    token = credential.security_token
    return {"x-acs-security-token": token} if token else {}
