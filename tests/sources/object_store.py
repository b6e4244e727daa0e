"""A store of objects on a loopback port, as S3 and OSS answer: enough to read, and to fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE_KEYS = 2
"""Keys in one page of a list: few, so that lists have pages."""

ACCESS_KEY = "AKIDEXAMPLE"
SECRET = "a-secret-that-nobody-may-see"
TOKEN = "a-token-that-nobody-may-see"


@dataclass
class ObjectStore:
    """Path-style addresses; listings have no XML namespace, which both clients accept."""

    objects: dict[str, bytes] = field(default_factory=dict)
    """By ``bucket/key``; a bucket is there when it has an object."""
    denied: str = ""
    """The code with which every request is refused."""
    replaced_after: int = 0
    """How many reads an object stays the same for; 0 is for ever."""
    cut: bool = False
    """Whether bodies end half-way."""
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)
    unsigned: int = 0
    reads: int = 0

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = data


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        store, url = self.store, urlsplit(self.path)
        store.requests.append(f"{self.command} {self.path}")
        if ACCESS_KEY not in self.headers.get("Authorization", ""):
            store.unsigned += 1
        name = unquote(url.path).strip("/")
        if store.denied:
            self._refuse(403, store.denied)
            return
        if not any(key.startswith(f"{name.partition('/')[0]}/") for key in store.objects):
            self._refuse(404, "NoSuchBucket")
            return
        if "/" not in name:
            self._list(name, parse_qs(url.query))
            return
        if name not in store.objects:
            self._refuse(404, "NoSuchKey")
            return
        self._object(name)

    def _object(self, name: str) -> None:
        store = self.store
        if self.command == "GET":
            store.reads += 1
            if store.replaced_after and store.reads > store.replaced_after:
                store.objects[name] += b"more\n"
        data = store.objects[name]
        etag = f'"{hashlib.md5(data).hexdigest()}"'  # noqa: S324 (as stores do)
        if self.headers.get("If-Match", etag) != etag:
            self._refuse(412, "PreconditionFailed")
            return
        status, headers = 200, {"ETag": etag, "Last-Modified": "Thu, 26 Nov 2026 00:00:00 GMT"}
        asked = self.headers.get("Range")
        if asked:
            start, _, last = asked.removeprefix("bytes=").partition("-")
            headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
            status, data = 206, data[int(start) : int(last) + 1]
        self._send(status, data, headers)

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix = f"{bucket}/{query.get('prefix', [''])[0]}"
        after = bytes.fromhex(query.get("continuation-token", [""])[0]).decode()
        names = sorted(key for key in self.store.objects if key.startswith(prefix) and key > after)
        page = names[:PAGE_KEYS]
        more = len(names) > len(page)
        contents = "".join(
            f"<Contents><Key>{escape(quote(name.partition('/')[2]))}</Key>"
            "<LastModified>2026-11-26T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag>"
            f"<Type>Normal</Type><Size>{len(self.store.objects[name])}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for name in page
        )
        token = (
            f"<NextContinuationToken>{page[-1].encode().hex()}</NextContinuationToken>"
            if more
            else ""
        )
        self._send(
            200,
            (
                '<?xml version="1.0"?><ListBucketResult><EncodingType>url</EncodingType>'
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}"
                "</ListBucketResult>"
            ).encode(),
            {"Content-Type": "application/xml"},
        )

    def _refuse(self, status: int, code: str) -> None:
        # What the real ones say about a wrong signature quotes what was signed.
        said = f"<StringToSign>x-amz-security-token:{TOKEN}</StringToSign>"
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{TOKEN}</Message>{said}</Error>'
        self._send(status, body.encode(), {"Content-Type": "application/xml"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-oss-request-id", "1")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.store.cut and status == 206:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: a test reads ``requests``."""


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """A store while the block lasts."""
    store = ObjectStore()
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    store.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(endpoint: str) -> dict[str, str]:
    """What the clients of both stores look for."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OSS_ENDPOINT": endpoint,
        "OSS_ACCESS_KEY_ID": ACCESS_KEY,
        "OSS_ACCESS_KEY_SECRET": SECRET,
        "OSS_SESSION_TOKEN": TOKEN,
    }
