"""The other service on the sandbox's port: STS, as far as it says whose key it is.

Its calls are no calls of Content Moderation: they have no quota here, no fault strikes them, and
the request log does not know them. Source: "GetCallerIdentity" of Security Token Service. Current
clients sign it with V3; the legacy one with the signature of RPC calls, which is in the query
("Signature method" of RPC APIs).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from worker.green.operations import GET_CALLER_IDENTITY
from worker.sandbox.answers import Answer, Refusal, gateway_answer
from worker.sandbox.arrival import Arrival
from worker.sandbox.facts import Facts
from worker.sandbox.gateway import Gateway, check_moment, read_claim
from worker.sandbox.keys import AccessKey, Keyring
from worker.sandbox.nonces import Nonces


class Identity:
    """Answers GetCallerIdentity for the one account that the sandbox emulates."""

    def __init__(self, account: str, keys: Keyring, facts: Facts) -> None:
        self._account = account
        self._keys = keys
        self._facts = facts
        self._nonces = Nonces()
        # What is undocumented about Content Moderation is known here: the official client signs V3.
        self._gateway = Gateway(keys, self._nonces, msgspec.structs.replace(facts, v3="accepted"))
        self.calls = 0
        """How often it was asked."""

    @staticmethod
    def concerns(arrival: Arrival) -> bool:
        """Whether this is a question for STS."""
        actions = (arrival.headers.get("x-acs-action"), dict(arrival.query).get("Action"))
        return arrival.path == GET_CALLER_IDENTITY.path and GET_CALLER_IDENTITY.action in actions

    def answer(self, arrival: Arrival, now_us: int, request_id: str) -> Answer:
        """Who signed, if somebody with a key did, just now and for the first time."""
        self.calls += 1
        parameters = dict(arrival.query)
        if "Signature" in parameters:
            refusal = self._authenticate_rpc(arrival, now_us / 1e6)
            key_id, version = parameters.get("AccessKeyId", ""), parameters.get("Version")
        else:
            refusal = self._gateway.authenticate(arrival, now_us / 1e6)
            claim, version = read_claim(arrival), arrival.headers.get("x-acs-version")
            key_id = claim.access_key_id if claim else ""
        if refusal is None and version != GET_CALLER_IDENTITY.version:
            refusal = Refusal("InvalidAction.NotFound", 404)
        if refusal is not None:
            return gateway_answer(refusal, request_id, arrival.headers.get("host", ""))
        key = self._keys.find(key_id)
        assert key is not None
        return self._caller(key, request_id)

    def _authenticate_rpc(self, arrival: Arrival, now_seconds: float) -> Refusal | None:
        parameters = dict(arrival.query)
        key = self._keys.find(parameters.get("AccessKeyId", ""))
        if key is None:
            return Refusal("InvalidAccessKeyId.NotFound", self._facts.unknown_key_status)
        if refusal := self._gateway.check_key(key, parameters.get("SecurityToken", "")):
            return refusal
        try:
            text = parameters.get("Timestamp", "")
            stated = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            return Refusal("InvalidTimeStamp.Format")
        if refusal := check_moment(stated, now_seconds):
            return refusal
        string_to_sign = _rpc_string_to_sign(arrival)
        expected = _rpc_signature(string_to_sign, key.access_key_secret)
        if not hmac.compare_digest(expected.encode(), parameters["Signature"].encode()):
            detail = f"server string to sign is:{string_to_sign}"
            return Refusal("SignatureDoesNotMatch", self._facts.bad_signature_status, detail)
        nonce = parameters.get("SignatureNonce", "")
        if not self._nonces.use(key.access_key_id, nonce, now_seconds):
            return Refusal("SignatureNonceUsed")
        return None

    def _caller(self, key: AccessKey, request_id: str) -> Answer:
        assumed = bool(key.security_token)
        who = "assumed-role/sandbox/sandbox" if assumed else "user/sandbox"
        body = {
            "IdentityType": "AssumedRoleUser" if assumed else "RAMUser",
            "AccountId": self._account,
            "PrincipalId": "300000000000000000:sandbox" if assumed else "200000000000000000",
            "Arn": f"acs:ram::{self._account}:{who}",
            "RequestId": request_id,
        }
        return Answer(200, msgspec.json.encode(body), "200")


def _rpc_string_to_sign(arrival: Arrival) -> str:
    pairs = sorted((name, value) for name, value in arrival.query if name != "Signature")
    canonical = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in pairs)
    return f"{arrival.method}&{_encoded('/')}&{_encoded(canonical)}"


def _rpc_signature(string_to_sign: str, secret: str) -> str:
    """Base64 of HMAC-SHA1, keyed with the AccessKey secret and an ampersand behind it."""
    digest = hmac.new(f"{secret}&".encode(), string_to_sign.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def _encoded(text: str) -> str:
    return quote(text, safe="~")
