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
_STS_HOST = re.compile(r"sts(-vpc)?(\.(?!oss\b)[a-z0-9-]+)?\.aliyuncs\.com")
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
            "would answer 'not there' to everything",
            "give --region (key region, e.g. cn-shanghai) or --endpoint (key endpoint)",
        )
    if region and not _REGION.fullmatch(region):
        raise UsageRefused(
            f"--region: {region!r} is not a region ID",
            f"Did you mean {_nearest(region)}? Documented: {', '.join(_documented())}",
        )
    if endpoint:
        return _explicit(endpoint, region, allow=allow)
    host = f"{'green-vpc' if network == 'vpc' else 'green'}.{region}.aliyuncs.com"
    return Endpoint(f"https://{host}", host, loopback=False, note=_note(region))


def resolve_sts(service: Endpoint, sts_endpoint: str, *, allow: bool) -> Endpoint | None:
    """Where to ask whose keys they are that sign for ``service``; None where nobody is to be asked.

    Hosts are ``sts.{region}.aliyuncs.com`` and, inside a VPC, ``sts-vpc.{region}...`` (the rule of
    the official STS client). The keys of an emulator or a proxy mean nothing to STS, so it is asked
    about them only where ``sts_endpoint`` says so. Raises ``UsageRefused`` for what cannot be an
    endpoint, and ``GateClosed`` for a foreign host without ``allow``.
    """
    if sts_endpoint:
        place = "sts_endpoint"
        split, host, port = _parts(sts_endpoint, place)
        loopback = _is_loopback(host)
        _refuse_in_the_clear(split, host, loopback=loopback, place=place)
        if not (_STS_HOST.fullmatch(host) or loopback or allow):
            raise GateClosed(
                f"{place}: {host} is neither an STS host (sts*.aliyuncs.com) nor loopback, and"
                " signed requests would go there",
                "give --allow-endpoint (key allow_endpoint) if that is what you want",
            )
        shown = _shown(split, host, port)
        return Endpoint(f"{split.scheme}://{shown}", shown, loopback)
    of_service = _SERVICE_HOST.fullmatch(service.host.partition(":")[0])
    if not of_service:
        return None
    prefix = "sts-vpc" if service.host.startswith("green-vpc.") else "sts"
    host = ".".join(filter(None, (prefix, of_service["region"], "aliyuncs.com")))
    return Endpoint(f"https://{host}", host, loopback=False)


def _explicit(endpoint: str, region: str, *, allow: bool) -> Endpoint:
    split, host, port = _parts(endpoint, "--endpoint")
    loopback = _is_loopback(host)
    _refuse_in_the_clear(split, host, loopback=loopback, place="--endpoint")
    service = _SERVICE_HOST.fullmatch(host)
    if not (service or loopback or allow):
        raise GateClosed(
            f"--endpoint: {host} is neither a Content Moderation host (green*.aliyuncs.com) "
            "nor loopback, and signed requests would go there",
            "give --allow-endpoint (key allow_endpoint) if that is what you want",
        )
    if service and region and service["region"] and service["region"] != region:
        raise UsageRefused(
            f"--endpoint: {host} belongs to {service['region']}, but --region is {region}",
            "give only one of them: each region may have a face library of its own",
        )
    shown = _shown(split, host, port)
    named = service["region"] if service else None
    return Endpoint(f"{split.scheme}://{shown}", shown, loopback, _note(named) if named else "")


def _refuse_in_the_clear(split: SplitResult, host: str, *, loopback: bool, place: str) -> None:
    if split.scheme == "http" and not loopback:
        raise UsageRefused(
            f"{place}: http://{host} would carry requests in the clear",
            "use https://; http:// is for loopback addresses only",
        )


def _shown(split: SplitResult, host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port in (None, _DEFAULT_PORTS[split.scheme]) else f"{shown}:{port}"


def _parts(endpoint: str, place: str) -> tuple[SplitResult, str, int | None]:
    product = "sts" if place == "sts_endpoint" else "green"
    remedy = f"give scheme and host only, e.g. https://{product}.cn-shanghai.aliyuncs.com"
    # urlsplit silently drops tabs and newlines, so they have to be seen before.
    if not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise UsageRefused(f"{place}: it contains a character that no URL may hold", remedy)
    try:
        split = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        host, port = split.hostname or "", split.port
    except ValueError:
        raise UsageRefused(f"{place}: it is not a URL", remedy) from None
    if split.scheme not in _DEFAULT_PORTS:
        raise UsageRefused(f"{place}: {split.scheme}:// is not https://", remedy)
    if "@" in split.netloc:
        # Not quoted: what stands before the @ may be a password.
        raise UsageRefused(f"{place}: it must not contain a user or password", remedy)
    if split.path not in ("", "/") or "?" in endpoint or "#" in endpoint:
        raise UsageRefused(f"{place}: it must not contain a path, query or fragment", remedy)
    if not (_HOST_NAME.fullmatch(host) or _is_address(host)) or port == 0:
        raise UsageRefused(f"{place}: it names no host, or no port that can be reached", remedy)
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
