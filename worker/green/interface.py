"""The ports of the service client and the values that pass through them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from worker.green.operations import Operation


@dataclass(frozen=True, slots=True)
class Credential:
    """A key pair, perhaps temporary. Two are equal when they sign alike."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    """``""`` for a permanent key pair."""
    provider: str = field(default="", compare=False)
    """Where it came from, e.g. ``env``, ``ecs_ram_role``."""
    expires_us: int | None = field(default=None, compare=False)
    """When a temporary one ends, microseconds since the epoch; None where nobody says so."""


class CredentialChain(Protocol):
    """Where key pairs come from. Both methods raise ``worker.errors.RunStopped``."""

    async def get(self) -> Credential:
        """The credential to sign with now; cheap, asked for before every signature."""
        ...

    async def renew(self) -> Credential:
        """The same, read from scratch: after the service refused the one that ``get`` gave."""
        ...


class Unsigned(msgspec.Struct, frozen=True, gc=False):
    """A request as a signer sees it."""

    operation: Operation
    host: str
    """The ``Host`` header: with a port where it is not the scheme's own."""
    query: Sequence[tuple[str, str]]
    """Decoded names and values."""
    body: bytes
    nonce: str

    def __repr__(self) -> str:
        """Without the body, which holds IDs."""
        return f"Unsigned({self.operation.action}, {self.nonce})"


class Signer(Protocol):
    """One signature scheme."""

    def sign(self, unsigned: Unsigned, credential: Credential, now_us: int) -> dict[str, str]:
        """Every header that is signed or signs, ``Host`` among them; nothing else need be sent."""
        ...


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names; values of a repeated header are joined by ``", "``."""
    body: bytes
    """As it came: never decompressed."""
    sent_us: int | None
    """When the first byte was handed to the socket; microseconds since the epoch, UTC."""
    ended_us: int

    def __repr__(self) -> str:
        """Without headers and body, which hold IDs."""
        return f"Reply({self.status}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Bytes left, and no complete HTTP answer came back."""

    code: str
    """A word of ours in snake_case: ``connection_reset``, ``read_timeout``..."""
    message: str
    sent_us: int | None
    ended_us: int
    http_status: int | None = None
    """The status line, where it still arrived."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not one byte of the request left this machine."""

    code: str
    """A word of ours in snake_case: ``connection_refused``, ``tls_failed``..."""
    message: str
    ended_us: int


class Departures(Protocol):
    """When requests of one operation may leave."""

    async def slot(self) -> None:
        """Wait for a departure, with the connection in hand.

        Raises ``worker.departure.NotDeparted``: then nothing may be sent.
        """
        ...

    def departed(self) -> None:
        """The bytes of the latest departure were handed to the socket."""
        ...


class Transport(Protocol):
    """One POST over HTTP: no resend, no redirect, no exception for trouble on the way."""

    async def exchange(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        body: bytes,
        depart: Callable[[], Awaitable[Mapping[str, str]]],
        departed: Callable[[], None],
    ) -> Reply | NotSent | Unanswered:
        """Send ``body`` and wait for the whole answer.

        ``depart`` is awaited at most once, with an open connection in hand, and returns the
        headers; when it raises ``worker.departure.NotDeparted``, nothing was sent. ``departed`` is
        called when the bytes were handed to the socket. A cancellation is raised again, and does
        not say whether the request had left.
        """
        ...
