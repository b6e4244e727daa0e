"""The gateway before the service: key, token, time, signature, nonce, version, in this order.

Schemes and codes are documented on Content Moderation's "Common parameters" and "Signature" pages
and on "V3 request structure and signature"; the order of the checks is not documented.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from worker.green.operations import API_VERSION
from worker.green.signing import (
    V3_ALGORITHM,
    content_md5,
    roa_signature,
    roa_string_to_sign,
    v3_canonical_request,
    v3_signature,
    v3_string_to_sign,
)
from worker.sandbox.answers import Refusal
from worker.sandbox.arrival import Arrival
from worker.sandbox.facts import Facts
from worker.sandbox.keys import AccessKey, Keyring
from worker.sandbox.nonces import Nonces

MAX_SKEW_SECONDS = 900.0
"""Documented: a date more than 15 minutes off is refused."""

_ROA = re.compile(r"acs ([^:\s]+):(\S+)")
_V3 = re.compile(
    rf"{V3_ALGORITHM} Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]+)"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What the ``Authorization`` header claims."""

    access_key_id: str
    signature: str
    signed_headers: tuple[str, ...] | None
    """None for ROA, which signs a fixed set."""


def read_claim(arrival: Arrival) -> Claim | None:
    """The claim of either scheme, or None where there is none that can be read."""
    authorization = arrival.headers.get("authorization", "")
    if found := _ROA.fullmatch(authorization):
        return Claim(found[1], found[2], None)
    if found := _V3.fullmatch(authorization):
        return Claim(found[1], found[3], tuple(found[2].split(";")))
    return None


def check_moment(stated: datetime, now_seconds: float) -> Refusal | None:
    """None when ``stated`` is near enough to now."""
    if abs(stated.timestamp() - now_seconds) > MAX_SKEW_SECONDS:
        return Refusal("InvalidTimeStamp.Expired")
    return None


class Gateway:
    """Decides whether a request may reach the service."""

    def __init__(self, keyring: Keyring, nonces: Nonces, facts: Facts) -> None:
        self._keyring = keyring
        self._nonces = nonces
        self._facts = facts

    def authenticate(self, arrival: Arrival, now_seconds: float) -> Refusal | None:
        """None when somebody with the key signed this request, just now and for the first time.

        ``now_seconds`` is wall time since the epoch. A good signature uses up its nonce.
        """
        claim = read_claim(arrival)
        if claim is None or (claim.signed_headers is not None and self._facts.v3 == "refused"):
            return Refusal(self._facts.missing_authorization)
        key = self._keyring.find(claim.access_key_id)
        if key is None:
            return Refusal("InvalidAccessKeyId.NotFound", self._facts.unknown_key_status)
        refusal = (
            self.check_key(key, arrival.headers.get("x-acs-security-token", ""))
            or self._check_time(arrival, claim, now_seconds)
            or self._check_signature(arrival, claim, key)
        )
        if refusal is not None:
            return refusal
        nonce = arrival.headers.get("x-acs-signature-nonce", "")
        if not nonce and self._facts.nonce == "required":
            return Refusal("MissingSignatureNonce")
        if nonce and not self._nonces.use(key.access_key_id, nonce, now_seconds):
            return Refusal("SignatureNonceUsed")
        return None

    def check_key(self, key: AccessKey, token: str) -> Refusal | None:
        """None when ``key`` is in force, and ``token`` is the one that was issued with it."""
        if key.state == "inactive":
            return Refusal("InvalidAccessKeyId.Inactive")
        if key.security_token and not token:
            return Refusal("MissingSecurityToken")
        if not hmac.compare_digest(token.encode(), key.security_token.encode()):
            return Refusal("InvalidSecurityToken.MismatchWithAccessKey")
        if key.state == "expired":
            return Refusal("InvalidSecurityToken.Expired", self._facts.expired_token_status)
        return None

    @staticmethod
    def _check_time(arrival: Arrival, claim: Claim, now_seconds: float) -> Refusal | None:
        try:
            if claim.signed_headers is None:
                stated = parsedate_to_datetime(arrival.headers.get("date", ""))
            else:
                text = arrival.headers.get("x-acs-date", "")
                stated = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            return Refusal("InvalidTimeStamp.Format")
        return check_moment(stated, now_seconds)

    def _check_signature(self, arrival: Arrival, claim: Claim, key: AccessKey) -> Refusal | None:
        if claim.signed_headers is None:
            return self._check_roa(arrival, claim, key)
        return self._check_v3(arrival, claim, claim.signed_headers, key)

    def _check_roa(self, arrival: Arrival, claim: Claim, key: AccessKey) -> Refusal | None:
        stated_md5 = arrival.headers.get("content-md5", "")
        if not stated_md5 and self._facts.content_md5 == "required":
            return Refusal("IncompleteSignature", detail="Content-MD5 is missing.")
        if stated_md5 and stated_md5 != content_md5(arrival.body):
            return Refusal(self._facts.bad_content_md5, self._mismatch_status)
        candidates = list(self._roa_strings(arrival))
        for string_to_sign in candidates:
            expected = roa_signature(string_to_sign, key.access_key_secret)
            if hmac.compare_digest(expected.encode(), claim.signature.encode()):
                return None
        return self._mismatch(candidates[0])

    def _roa_strings(self, arrival: Arrival) -> Iterator[str]:
        """What the client may have signed: clients differ where the documentation is silent."""
        spellings = {"either": (True, False), "with-sign": (True,), "without-sign": (False,)}
        headers = [arrival.headers]
        if not arrival.body and arrival.headers.get("content-type"):
            # Client libraries add a Content-Type to an empty body after signing.
            headers.append({**arrival.headers, "content-type": ""})
        for candidate in headers:
            for empty_value_sign in spellings[self._facts.empty_value]:
                yield roa_string_to_sign(
                    arrival.method,
                    arrival.path,
                    arrival.query,
                    candidate,
                    empty_value_sign=empty_value_sign,
                )

    def _check_v3(
        self, arrival: Arrival, claim: Claim, signed_headers: tuple[str, ...], key: AccessKey
    ) -> Refusal | None:
        payload_sha256 = hashlib.sha256(arrival.body).hexdigest()
        canonical = v3_canonical_request(
            arrival.method,
            arrival.path,
            arrival.query,
            arrival.headers,
            signed_headers,
            payload_sha256,
        )
        string_to_sign = v3_string_to_sign(canonical)
        expected = v3_signature(string_to_sign, key.access_key_secret)
        if not hmac.compare_digest(expected, claim.signature):
            return self._mismatch(string_to_sign)
        if arrival.headers.get("x-acs-content-sha256") != payload_sha256:
            return self._mismatch(string_to_sign)
        if self._facts.signed_headers == "all":
            needed = {name for name in arrival.headers if name.startswith("x-acs-")} | {"host"}
            unsigned = sorted(needed.difference(signed_headers))
            if unsigned:
                return Refusal("IncompleteSignature", detail=f"Not signed: {', '.join(unsigned)}.")
        return None

    @property
    def _mismatch_status(self) -> int:
        return self._facts.bad_signature_status

    def _mismatch(self, string_to_sign: str) -> Refusal:
        # The service echoes the string with a security token in it; clients must redact it.
        detail = f"server string to sign is:{string_to_sign}"
        return Refusal("SignatureDoesNotMatch", self._mismatch_status, detail)

    def check_parameters(self, arrival: Arrival) -> Refusal | None:
        """None when an authentic request's common parameters are such that it can be served."""
        if arrival.headers.get("x-acs-version") != API_VERSION:
            return Refusal("InvalidAction.NotFound", self._facts.unknown_action_status)
        content_type = arrival.headers.get("content-type", "").partition(";")[0].strip()
        if self._facts.content_type == "json" and content_type != "application/json":
            return Refusal("InvalidContentType")
        for name, value in arrival.query:
            if name.lower() == "clientinfo" and not self._good_client_info(name, value):
                return Refusal("InvalidClientInfo")
        return None

    def _good_client_info(self, name: str, value: str) -> bool:
        if name not in {"ClientInfo", "clientInfo"}:
            return False
        if self._facts.client_info_key not in {"either", name}:
            return False
        if not value:
            return True
        try:
            return isinstance(json.loads(value), dict)
        except (ValueError, RecursionError):
            return False
