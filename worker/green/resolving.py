"""Names to addresses by the system's resolver, without being held up by it at the end.

The system's resolver cannot be cancelled, and takes tens of seconds where no name server answers.
A loop waits for its executor's threads when it closes, and the interpreter does so again; for a
daemon thread nobody waits.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

_Found: TypeAlias = "list[ResolveResult] | OSError"


class DaemonResolver(AbstractResolver):
    """``getaddrinfo`` in a daemon thread for each question."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host``; raises ``OSError`` where there are none."""
        answer: asyncio.Future[_Found] = asyncio.get_running_loop().create_future()

        def look_up() -> None:
            found = _addresses(host, port, family)

            def tell() -> None:
                if not answer.done():
                    answer.set_result(found)

            # A closed loop means that nobody waits any more.
            with suppress(RuntimeError):
                answer.get_loop().call_soon_threadsafe(tell)

        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        found = await answer
        if isinstance(found, OSError):
            raise found
        return found

    async def close(self) -> None:
        """Nothing is held."""


def _addresses(host: str, port: int, family: socket.AddressFamily) -> _Found:
    try:
        infos = socket.getaddrinfo(
            host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except OSError as error:
        return error
    except UnicodeError:
        return socket.gaierror(socket.EAI_NONAME, "the name cannot be encoded")
    found: list[ResolveResult] = []
    for kind, _, protocol, _, address in infos:
        number = str(address[0])
        if kind == socket.AF_INET6 and len(address) == 4 and address[3]:
            # A link-local address is reachable through its interface only.
            number = f"{number}%{address[3]}"
        found.append(
            ResolveResult(
                hostname=host,
                host=number,
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
        )
    return found or socket.gaierror(socket.EAI_NONAME, "no address of a usable kind")
