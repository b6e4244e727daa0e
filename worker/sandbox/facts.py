"""What nobody outside the service knows, as switches: a client must be right for every setting."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the sandbox behaves where the service's behaviour is not documented.

    The quota's undocumented sides (window, shared bucket, form of the refusal, hint headers) are in
    ``worker.sandbox.quota.Quota``. Each description is shown by ``facepurge sandbox --list facts``.
    """

    unknown_person: Annotated[
        Literal["code-404", "code-400", "empty-data", "empty-list"],
        Meta(description="answer about a person who does not exist"),
    ] = "code-404"
    unknown_faces: Annotated[
        Literal["omitted", "listed", "code-404"],
        Meta(description="faces to be deleted that the person does not have"),
    ] = "omitted"
    repeated_faces: Annotated[
        Literal["once", "each", "code-400"],
        Meta(description="a face named twice in one DeleteFaces request"),
    ] = "once"
    empty_face_list: Annotated[
        Literal["code-400", "nothing", "all-faces"],
        Meta(description="DeleteFaces with a missing or empty faceIds"),
    ] = "code-400"
    answer_order: Annotated[
        Literal["asked", "reversed"],
        Meta(description="order of the faces in an answer of DeleteFaces"),
    ] = "asked"
    max_faces_per_call: Annotated[
        int,
        Meta(description="faceIds accepted by one DeleteFaces call; 0 for no limit", ge=0),
    ] = 0
    unlisted_faces: Annotated[
        Literal["omitted", "success-false"],
        Meta(description="faces that GetFaces is asked for and the person does not have"),
    ] = "omitted"
    added_face_number: Annotated[
        Literal["digits", "exponent"],
        Meta(description="how AddFaces writes its 'Float' faceId; both are exact"),
    ] = "digits"
    service_error_place: Annotated[
        Literal["outer", "inner", "both"],
        Meta(description="whether a refusal is in code, in data.code, or in both"),
    ] = "outer"
    service_error_status: Annotated[
        Literal["200", "code"],
        Meta(description="HTTP status of a refusal by the service: 200, or the code itself"),
    ] = "200"
    nonce: Annotated[
        Literal["optional", "required"],
        Meta(description="x-acs-signature-nonce; the official legacy client sends none"),
    ] = "optional"
    content_type: Annotated[
        Literal["any", "json"],
        Meta(description="Content-Type; the official legacy client sends octet-stream"),
    ] = "any"
    content_md5: Annotated[
        Literal["optional", "required"],
        Meta(description="Content-MD5 with ROA; the Tea client in v2 mode sends none"),
    ] = "optional"
    client_info_key: Annotated[
        Literal["either", "ClientInfo", "clientInfo"],
        Meta(description="spelling of the query key; another one than this is refused"),
    ] = "either"
    empty_value: Annotated[
        Literal["either", "with-sign", "without-sign"],
        Meta(description="how ROA signs an empty query value: 'k=' or 'k'"),
    ] = "either"
    v3: Annotated[
        Literal["accepted", "refused"],
        Meta(description="whether signatures of the scheme ACS3-HMAC-SHA256 are accepted"),
    ] = "accepted"
    signed_headers: Annotated[
        Literal["all", "any"],
        Meta(description="whether V3 must sign host and every x-acs-* header it sends"),
    ] = "all"
    missing_authorization: Annotated[
        Literal["IncompleteSignature", "MissingAuthorization", "InvalidAccessKeyId.NotFound"],
        Meta(description="code for a request without a readable Authorization"),
    ] = "IncompleteSignature"
    bad_content_md5: Annotated[
        Literal["SignatureDoesNotMatch", "ContentMD5NotMatched"],
        Meta(description="code for a Content-MD5 that is not the body's"),
    ] = "SignatureDoesNotMatch"
    order_of_checks: Annotated[
        Literal["signature-first", "throttle-first"],
        Meta(description="whether a call over the quota has its signature checked at all"),
    ] = "signature-first"
    unknown_key_status: Annotated[
        Literal[404, 400], Meta(description="HTTP status of InvalidAccessKeyId.NotFound")
    ] = 404
    bad_signature_status: Annotated[
        Literal[400, 403], Meta(description="HTTP status of SignatureDoesNotMatch")
    ] = 400
    expired_token_status: Annotated[
        Literal[400, 403], Meta(description="HTTP status of InvalidSecurityToken.Expired")
    ] = 400
    unknown_action_status: Annotated[
        Literal[400, 404], Meta(description="HTTP status of InvalidAction.NotFound")
    ] = 400
