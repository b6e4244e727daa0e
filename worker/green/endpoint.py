"""Where the service is: from region, network and endpoint settings to one checked address."""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from worker.errors import GateClosed, UsageRefused

FACE_LIBRARY_REGIONS = ("cn-shanghai", "cn-beijing")
"""Regions documented to offer every service, custom face retrieval among them ("Endpoints")."""

PARTIAL_REGIONS = ("cn-shenzhen", "ap-southeast-1", "eu-central-1", "us-east-1")
"""Regions documented with a list of services in which custom face retrieval does not appear."""

_REGION = re.compile(r"[a-z]+(-[a-z]+)+(-?[0-9]+)?")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
# OSS buckets are hosts under aliyuncs.com that anybody can create: green-x.oss-cn-hangzhou...
_SERVICE_HOST = re.compile(r"green[a-z0-9-]*(\.(?!oss\b)(?P<region>[a-z0-9-]+))?\.aliyuncs\.com")
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked address of the service."""

    url_base: str
    """Scheme, host and, where it is not the scheme's own, port; no trailing slash."""
    host: str
    """The ``Host`` header."""
    loopback: bool
    note: str = ""
    """A sentence for the plan where the documentation leaves a doubt, otherwise ``""``."""


def resolve_endpoint(region: str, network: str, endpoint: str, *, allow: bool) -> Endpoint:
    """The address that the settings name; an explicit endpoint wins over the region's own.

    Hosts are ``green.{region}.aliyuncs.com`` and, inside a VPC, ``green-vpc.{region}...``
    (documented on "Endpoints" of Content Moderation). Raises ``UsageRefused`` for what cannot be
    an endpoint, and ``GateClosed`` for a foreign host without ``allow``.
    """
    if not region and not endpoint:
        raise UsageRefused(
            "--region: neither a region nor an endpoint is given, and a wrong face library "
            "would answer 'not there' to everything.",
            "Give --region (key region, e.g. cn-shanghai) or --endpoint (key endpoint).",
        )
    if region and not _REGION.fullmatch(region):
        raise UsageRefused(
            f"--region: {region!r} is not a region ID.",
            f"Did you mean {_nearest(region)}? Documented: {', '.join(_documented())}.",
        )
    if endpoint:
        return _explicit(endpoint, region, allow=allow)
    host = f"{'green-vpc' if network == 'vpc' else 'green'}.{region}.aliyuncs.com"
    return Endpoint(f"https://{host}", host, loopback=False, note=_note(region))


def _explicit(endpoint: str, region: str, *, allow: bool) -> Endpoint:
    split, host, port = _parts(endpoint)
    loopback = _is_loopback(host)
    if split.scheme == "http" and not loopback:
        raise UsageRefused(
            f"--endpoint: http://{host} would carry requests in the clear.",
            "Use https://; http:// is for loopback addresses only.",
        )
    service = _SERVICE_HOST.fullmatch(host)
    if not (service or loopback or allow):
        raise GateClosed(
            f"--endpoint: {host} is neither a Content Moderation host (green*.aliyuncs.com) "
            "nor loopback, and signed requests would go there.",
            "Give --allow-endpoint (key allow_endpoint) if that is what you want.",
        )
    if service and region and service["region"] and service["region"] != region:
        raise UsageRefused(
            f"--endpoint: {host} belongs to {service['region']}, but --region is {region}.",
            "Give only one of them: each region may have a face library of its own.",
        )
    shown = f"[{host}]" if ":" in host else host
    if port not in (None, _DEFAULT_PORTS[split.scheme]):
        shown = f"{shown}:{port}"
    named = service["region"] if service else None
    return Endpoint(f"{split.scheme}://{shown}", shown, loopback, _note(named) if named else "")


def _parts(endpoint: str) -> tuple[SplitResult, str, int | None]:
    remedy = "Give scheme and host only, e.g. https://green.cn-shanghai.aliyuncs.com."
    # urlsplit silently drops tabs and newlines, so they have to be seen before.
    if not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise UsageRefused("--endpoint: contains a character that no URL may hold.", remedy)
    try:
        split = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        host, port = split.hostname or "", split.port
    except ValueError:
        raise UsageRefused("--endpoint: is not a URL.", remedy) from None
    if split.scheme not in _DEFAULT_PORTS:
        raise UsageRefused(f"--endpoint: {split.scheme}:// is not https://.", remedy)
    if "@" in split.netloc:
        # Not quoted: what stands before the @ may be a password.
        raise UsageRefused("--endpoint: must not contain a user or password.", remedy)
    if split.path not in ("", "/") or "?" in endpoint or "#" in endpoint:
        raise UsageRefused("--endpoint: must not contain a path, query or fragment.", remedy)
    if not (_HOST_NAME.fullmatch(host) or _is_address(host)) or port == 0:
        raise UsageRefused("--endpoint: names no host, or no port that can be reached.", remedy)
    return split, host, port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _documented() -> tuple[str, ...]:
    return FACE_LIBRARY_REGIONS + PARTIAL_REGIONS


def _nearest(region: str) -> str:
    found = difflib.get_close_matches(region.strip().lower(), _documented(), n=1, cutoff=0.0)
    return found[0] if found else FACE_LIBRARY_REGIONS[0]


def _note(region: str) -> str:
    if region in FACE_LIBRARY_REGIONS:
        return ""
    if region in PARTIAL_REGIONS:
        return f"The documentation does not list custom face retrieval for {region}."
    return (
        f"The documentation lists no Content Moderation endpoint in {region}; "
        f"the nearest name that it lists is {_nearest(region)}."
    )
