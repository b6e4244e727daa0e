"""A face library that agrees to everything, and knows when each request came.

It deletes whatever it is asked to and remembers of whom; a lookup is answered from the arithmetic
of a manifest, so that a library of millions of persons takes no memory. It checks no signature and
has no quota: it is there to be waited for, not to be right.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from worker.sandbox.keys import SANDBOX_ACCESS_KEY_ID, SANDBOX_ACCESS_KEY_SECRET

DEADLINE_SECONDS = 600.0

KEYS = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": SANDBOX_ACCESS_KEY_ID,
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SANDBOX_ACCESS_KEY_SECRET,
    "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
}
"""An environment in which the program finds keys, for a service that looks at none."""

FacesOf = Callable[[str], list[str]]


class AgreeableService:
    """Listens on a loopback port, in a thread of its own, for as long as it is entered."""

    def __init__(self, faces_of: FacesOf = lambda _: []) -> None:
        """``faces_of`` a person are those there were before anything was deleted."""
        self._faces_of = faces_of
        self._news = threading.Condition()
        self._arrivals: list[float] = []
        self._deleted: dict[str, set[str]] = {}
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._closing.wait()
        server.close()

    def forget(self) -> None:
        """No request has come yet; what was deleted stays deleted."""
        with self._news:
            self._arrivals.clear()

    def arrived(self, count: int, died: Callable[[], bool] = lambda: False) -> float:
        """Wait for so many requests; the monotonic time at which the first of them came.

        Raises ``TimeoutError``, at once where whoever sends them has ``died``.
        """
        limit = time.monotonic() + DEADLINE_SECONDS
        with self._news:
            while len(self._arrivals) < count:
                if died() or time.monotonic() > limit:
                    raise TimeoutError(f"{len(self._arrivals)} requests came, not {count}")
                self._news.wait(0.2)
            return self._arrivals[0]

    @property
    def faces_deleted(self) -> int:
        """Distinct ones, since the service began."""
        with self._news:
            return sum(map(len, self._deleted.values()))

    def answer(self, path: str, body: bytes, came_seconds: float) -> bytes:
        """The answer to one request, which is done then."""
        asked: dict[str, Any] = json.loads(body)
        person_id, face_ids = asked["personId"], asked.get("faceIds", [])
        data: dict[str, Any] = {"code": 200, "personId": person_id}
        with self._news:
            self._arrivals.append(came_seconds)
            number = len(self._arrivals)
            gone = self._deleted.setdefault(person_id, set())
            if path.endswith("/face/delete"):
                gone.update(face_ids)
                data |= {"faceIds": face_ids, "deleteCount": len(face_ids)}
            else:
                left = [face for face in self._faces_of(person_id) if face not in gone]
                data |= {"name": "", "groupIds": [], "faceIds": left, "note": ""}
            self._news.notify_all()
        document = {"code": 200, "msg": "OK", "requestId": f"BENCH-{number}", "data": data}
        return json.dumps(document).encode()


class _Connection(asyncio.Protocol):
    """Requests with a body and a ``Content-Length``, one after the other."""

    def __init__(self, service: AgreeableService) -> None:
        self._service = service
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        came_seconds = time.monotonic()
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        request, *lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b":", 1) for line in lines)
        length = int(fields[b"content-length"])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        path = request.split()[1].decode().partition("?")[0]
        body = self._service.answer(path, rest[:length], came_seconds)
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
