"""How far this machine gets towards an address: its name, a connection, a certificate."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import urlsplit

from worker.cli.finding import Finding, Grade
from worker.errors import UsageRefused
from worker.green.endpoint import Endpoint
from worker.green.resolving import DaemonResolver
from worker.green.transport import tls_context
from worker.settings import Settings

EXPIRES_SOON_DAYS: Final = 14
"""Certificates that renew themselves do so well before this."""

_UNTRUSTED: Final = frozenset({18, 19, 20, 21})
"""OpenSSL's verification errors of a chain that does not end with a known authority."""

_PROXY_VARIABLES: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_NETWORK: Final = "check this machine's network and firewall, --region, --endpoint and network"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads."""

    scheme: str
    host: str
    port: int


def address_of(endpoint: Endpoint) -> Address:
    """Scheme, host and port of a checked endpoint."""
    split = urlsplit(endpoint.url_base)
    host = split.hostname or ""
    return Address(split.scheme, host, split.port or (443 if split.scheme == "https" else 80))


async def examine_name(address: Address, settings: Settings) -> tuple[Finding, list[str]]:
    """Whether the host's name has addresses, and which."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(address.host)
        said = f"{address.host} is an address and needs no name server"
        return Finding("dns", Grade.OK, said), [address.host]
    seconds = settings.connect_timeout_seconds
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            found = await DaemonResolver().resolve(address.host, address.port, socket.AF_UNSPEC)
    except TimeoutError:
        cause = f"no name server answered within {seconds:g} s"
    except OSError as error:
        cause = error.strerror or "the name is not known"
    else:
        numbers = list(dict.fromkeys(entry["host"] for entry in found))
        said = f"{address.host} is {', '.join(numbers)} ({_since(began)})"
        return Finding("dns", Grade.OK, said), numbers
    failed = Finding(
        "dns",
        Grade.FAIL,
        f"{address.host}: the name cannot be resolved ({cause})",
        "check the region's spelling, this machine's name server (/etc/resolv.conf) and network",
    )
    return failed, []


async def examine_connection(
    address: Address, numbers: Sequence[str], settings: Settings
) -> Finding:
    """Whether a connection opens and, for TLS, whose certificate it shows and until when.

    ``numbers`` are the host's addresses, at least one; the first that accepts is used.
    """
    where = f"{address.host}:{address.port}"
    try:
        # Also for a loopback address without TLS: STS is asked over it.
        context: ssl.SSLContext | None = tls_context(settings.ca_file)
    except UsageRefused as refused:
        return Finding("connection", Grade.FAIL, refused.cause, refused.remedy)
    if address.scheme != "https":
        context = None
    began = time.monotonic()
    try:
        async with asyncio.timeout(settings.connect_timeout_seconds):
            writer = await _opened(address, numbers, context)
    except ssl.SSLCertVerificationError as error:
        return await _unverified(address, error, settings)
    except ssl.SSLError as error:
        return Finding(
            "connection",
            Grade.FAIL,
            f"{where} does not speak TLS 1.2 or newer ({error.reason or type(error).__name__})",
            "check --endpoint, and what stands between this machine and the service",
        )
    except (OSError, TimeoutError) as error:
        return _unreachable(where, error, settings)
    took = _since(began)
    tls = writer.get_extra_info("ssl_object")
    certificate: dict[str, Any] = tls.getpeercert() if tls is not None else {}
    version = tls.version() if tls is not None else ""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
    if context is None:
        said = f"{where} accepts connections ({took}), without TLS: a loopback address"
        return Finding("connection", Grade.OK, said)
    return _verified(where, certificate, f"{version}, {took}", time.time())


async def _opened(
    address: Address, numbers: Sequence[str], context: ssl.SSLContext | None
) -> asyncio.StreamWriter:
    name = address.host if context is not None else None
    for number in numbers[:-1]:
        with contextlib.suppress(ConnectionError, socket.gaierror):
            _, writer = await asyncio.open_connection(
                number, address.port, ssl=context, server_hostname=name
            )
            return writer
    _, writer = await asyncio.open_connection(
        numbers[-1], address.port, ssl=context, server_hostname=name
    )
    return writer


def _since(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"


def _verified(where: str, certificate: dict[str, Any], how: str, now_seconds: float) -> Finding:
    until_seconds = ssl.cert_time_to_seconds(certificate["notAfter"])
    days = (until_seconds - now_seconds) / 86_400
    until = formatdate(until_seconds, usegmt=True)[5:16]
    said = (
        f"{where} shows a certificate of {_issuer(certificate)}, valid until {until}"
        f" ({days:.0f} days; {how})"
    )
    if days < EXPIRES_SOON_DAYS:
        return Finding(
            "connection",
            Grade.WARN,
            said,
            "plan no run beyond that day, and ask whoever runs the address to renew it",
        )
    return Finding("connection", Grade.OK, said)


async def _unverified(
    address: Address, error: ssl.SSLCertVerificationError, settings: Settings
) -> Finding:
    """What is wrong with the certificate, and what to do about this kind of wrong."""
    said = f"{address.host}:{address.port}: {error.verify_message.rstrip('.')}"
    if "expired" in error.verify_message or "not yet valid" in error.verify_message:
        remedy = "check this machine's clock first; if it is right, the certificate is the matter"
    elif error.verify_code in _UNTRUSTED:
        issuer = await _stranger(address, settings)
        said += f"; it was issued by {issuer}" if issuer else ""
        remedy = (
            "if that is your own proxy or inspection, put its CA certificate into ca_file;"
            " otherwise somebody stands between this machine and the service"
        )
    else:
        remedy = "check --endpoint: the host that answers has another name"
    return Finding("connection", Grade.FAIL, said, f"{remedy}; verification cannot be switched off")


async def _stranger(address: Address, settings: Settings) -> str:
    """Who issued a certificate that nobody vouches for; ``""`` where that cannot be told.

    Nothing but a handshake, and verified: the context trusts what the server has just shown.
    """

    def look() -> str:
        pem = ssl.get_server_certificate((address.host, address.port), timeout=3)
        context = tls_context(settings.ca_file)
        context.load_verify_locations(cadata=pem)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with (
            socket.create_connection((address.host, address.port), timeout=3) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as tls,
        ):
            return _issuer(tls.getpeercert() or {})

    with contextlib.suppress(OSError, ValueError):
        return await asyncio.to_thread(look)
    return ""


def _issuer(certificate: dict[str, Any]) -> str:
    names = {
        key: "".join(c for c in value if c.isprintable())[:80]
        for part in certificate.get("issuer", ())
        for key, value in part
    }
    words = [names[key] for key in ("commonName", "organizationName") if key in names]
    return " of ".join(dict.fromkeys(words)) or "an authority without a name"


def _unreachable(where: str, error: Exception, settings: Settings) -> Finding:
    if isinstance(error, TimeoutError):
        cause = f"no connection within {settings.connect_timeout_seconds:g} s"
    else:
        cause = getattr(error, "strerror", None) or type(error).__name__
    proxies = [name for name in _PROXY_VARIABLES if os.environ.get(name)]
    hint = f"; {proxies[0]} is set, and proxies are not used" if proxies else ""
    return Finding("connection", Grade.FAIL, f"{where}: {cause}", f"{_NETWORK}{hint}")
