"""Object stores by the packages of their own world: credentials come from where these look.

S3 through ``s3fs`` (environment, profiles, instance roles). OSS through ``oss2``, the official
package, because ``ossfs`` cannot ask for one version of an object: ``OSS_ACCESS_KEY_ID`` and
``OSS_ACCESS_KEY_SECRET``, otherwise the Alibaba Cloud chain; ``OSS_ENDPOINT`` or ``OSS_REGION``.

What a store says in its own words is never repeated: an answer about a wrong signature quotes what
was signed, and a security token may be in that.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from worker.errors import UsageRefused

CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
ATTEMPTS = 3


class StoreRefused(Exception):
    """A store that gave no answer, or one that is none."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class NoSuchObject(StoreRefused):
    """There is nothing under that name."""


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one content of an object from another."""

    size: int
    """Bytes."""
    etag: str
    """As the store gives it; ``""`` where it gives none."""


class Store(Protocol):
    """Every method raises ``StoreRefused``."""

    def version(self, bucket: str, key: str) -> Version: ...

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        """All keys that begin with ``prefix``, in no promised order."""
        ...

    def read(self, bucket: str, key: str, version: Version, start: int, stop: int) -> bytes:
        """Bytes of that very version; ``stop`` is beyond the last one."""
        ...


def store_of(scheme: str) -> Store:
    """Raises ``UsageRefused`` for a store whose package or endpoint is missing."""
    return _S3() if scheme == "s3" else _Oss()


class _S3:
    def __init__(self) -> None:
        try:
            import s3fs  # type: ignore[import-untyped]  # noqa: PLC0415 (optional; no annotations)
        except ImportError as error:
            raise _not_installed("s3", "S3") from error
        self._files = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "read_timeout": READ_TIMEOUT_SECONDS,
                "retries": {"max_attempts": ATTEMPTS, "mode": "standard"},
            },
        )
        self._files.retries = ATTEMPTS

    def version(self, bucket: str, key: str) -> Version:
        with _s3_answers():
            head = self._files.call_s3("head_object", Bucket=bucket, Key=key)
        return Version(head["ContentLength"], head.get("ETag", ""))

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        more: dict[str, str] = {}
        while True:
            with _s3_answers():
                page = self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
            yield from (found["Key"] for found in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def read(self, bucket: str, key: str, version: Version, start: int, stop: int) -> bytes:
        with _s3_answers(), self._files.open(f"{bucket}/{key}", "rb", cache_type="none") as file:
            now = Version(file.details["size"], file.details.get("ETag", ""))
            if now != version:
                raise _changed()
            file.seek(start)
            return file.read(stop - start)  # type: ignore[no-any-return]  # no annotations


@contextmanager
def _s3_answers() -> Iterator[None]:
    from aiohttp import ClientError as ConnectionFailed  # noqa: PLC0415 (comes with s3fs)
    from botocore.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415 (comes with s3fs)
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound):
        raise StoreRefused(
            "no credentials for S3 were found",
            "give them where the AWS CLI looks for them: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the machine",
        ) from None
    except (OSError, BotoCoreError, ClientError, ConnectionFailed) as error:
        answered = error if isinstance(error, ClientError) else error.__cause__
        code = answered.response["Error"]["Code"] if isinstance(answered, ClientError) else ""
        raise _refused(
            str(code) or type(error).__name__, "s3:GetObject and s3:ListBucket"
        ) from None


class _Oss:
    def __init__(self) -> None:
        try:
            import oss2  # type: ignore[import-untyped]  # noqa: PLC0415 (optional; no annotations)
        except ImportError as error:
            raise _not_installed("oss", "OSS") from error
        # It would write whole answers of the store to a terminal that nobody has given it.
        logging.getLogger("oss2").setLevel(logging.CRITICAL)
        self._oss2 = oss2
        self._region = os.environ.get("OSS_REGION", "")
        self._endpoint = os.environ.get("OSS_ENDPOINT", "")
        if not self._endpoint and self._region:
            self._endpoint = f"https://oss-{self._region}.aliyuncs.com"
        if not self._endpoint:
            raise UsageRefused(
                "oss://: nothing says in which region the bucket is",
                "set OSS_REGION, e.g. cn-shanghai, or OSS_ENDPOINT",
            )
        provider = _oss_credentials(oss2)
        self._auth = oss2.ProviderAuthV4(provider) if self._region else oss2.ProviderAuth(provider)

    def version(self, bucket: str, key: str) -> Version:
        with self._answers():
            head = self._bucket(bucket).head_object(key)
        return Version(head.content_length, head.etag or "")

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        found = iter(self._oss2.ObjectIteratorV2(self._bucket(bucket), prefix=prefix))
        while True:
            with self._answers():
                entry = next(found, None)
            if entry is None:
                return
            yield entry.key

    def read(self, bucket: str, key: str, version: Version, start: int, stop: int) -> bytes:
        headers = {"If-Match": f'"{version.etag}"'} if version.etag else {}
        with self._answers():
            answer = self._bucket(bucket).get_object(
                key, byte_range=(start, stop - 1), headers=headers
            )
            return answer.read()  # type: ignore[no-any-return]  # no annotations

    def _bucket(self, name: str) -> Any:
        with self._answers():
            return self._oss2.Bucket(
                self._auth,
                self._endpoint,
                name,
                region=self._region or None,
                connect_timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
                enable_crc=False,  # it is of whole objects, and ranges are read
            )

    @contextmanager
    def _answers(self) -> Iterator[None]:
        wrong = self._oss2.exceptions
        try:
            yield
        except wrong.OssError as error:
            # The client's own errors have no code; those of the network are named by their cause.
            cause = getattr(error, "exception", None)
            code = error.code or type(cause or error).__name__
            if error.status > 0 and not error.code:
                code = str(error.status)  # the answer to a HEAD has no body
            raise _refused(code, "oss:GetObject and oss:ListObjects") from None
        except OSError as error:
            raise _refused(type(error).__name__, "oss:GetObject and oss:ListObjects") from None


def _oss_credentials(oss2: Any) -> Any:
    if os.environ.get("OSS_ACCESS_KEY_ID"):
        return oss2.credentials.EnvironmentVariableCredentialsProvider()
    from alibabacloud_credentials.client import (  # type: ignore[import-untyped]  # noqa: PLC0415 (slow; no annotations)
        Client,
    )
    from alibabacloud_credentials.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415 (the same)
        CredentialException,
    )

    class Chain(oss2.credentials.CredentialsProvider):  # type: ignore[misc]  # no annotations
        def get_credentials(self) -> Any:
            try:
                found = Client().get_credential()
            except CredentialException:
                raise StoreRefused(
                    "no credentials for OSS were found",
                    "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or give them where the "
                    "Alibaba Cloud CLI looks for them",
                ) from None
            return oss2.credentials.Credentials(
                found.access_key_id, found.access_key_secret, found.security_token
            )

    return Chain()


def _not_installed(extra: str, name: str) -> UsageRefused:
    return UsageRefused(
        f"{extra}://: what is needed to read from {name} is not installed",
        f"install it: pip install 'facepurge[{extra}]'",
    )


def _changed() -> StoreRefused:
    return StoreRefused(
        "the object changed while it was being read",
        "run again when whatever writes it has finished",
    )


_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "FileNotFoundError", "NotFound"})
_CHANGED = frozenset({"412", "PreconditionFailed", "FileExpired"})
_DENIED = re.compile(
    "403|.*Denied|.*Forbidden|.*AccessKey.*|Signature.*|.*Token.*|PermissionError|.*TimeTooSkewed"
)


def _refused(code: str, permissions: str) -> StoreRefused:
    code = code if re.fullmatch("[A-Za-z0-9.]{1,60}", code) else "unknown"
    if code in _CHANGED:
        return _changed()
    if code in _MISSING:
        return NoSuchObject(
            f"there is no such bucket or object ({code})",
            "check bucket, key, endpoint and region; keys are compared letter by letter",
        )
    if _DENIED.fullmatch(code):
        return StoreRefused(
            f"the store refused access ({code})",
            f"check the credentials, their expiry and their right to {permissions}",
        )
    return StoreRefused(
        f"the store gave no usable answer ({code})",
        "check endpoint, region and network, then run again",
    )
