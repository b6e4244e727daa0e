"""Every setting of a run with its default. Units are part of the names.

``configs/reference.toml`` documents the same keys and is tested equal to these defaults; how
flags, environment and files are laid over one another is the business of ``worker.configuration``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

DOCUMENTED_RATE_PER_SECOND = 20.0
"""Calls per second and account that the service documents for DeleteFaces."""

DOCUMENTED_FACES_PER_PERSON = 20
"""The service's documented maximum of faces of one person."""


class ClientInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The optional ``clientInfo`` of the service's common request parameters; all text."""

    sdkVersion: str = ""  # noqa: N815 (the service's spelling)
    cfgVersion: str = ""  # noqa: N815 (the service's spelling)
    userType: str = ""  # noqa: N815 (the service's spelling)
    userId: str = ""  # noqa: N815 (the service's spelling)
    userNick: str = ""  # noqa: N815 (the service's spelling)
    avatar: str = ""
    imei: str = ""
    imsi: str = ""
    umid: str = ""
    ip: str = ""
    os: str = ""
    channel: str = ""
    hostAppName: str = ""  # noqa: N815 (the service's spelling)
    hostPackage: str = ""  # noqa: N815 (the service's spelling)
    hostVersion: str = ""  # noqa: N815 (the service's spelling)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run can be told. ``""`` and ``0`` mean "not given" where a key says so."""

    # The service
    region: str = ""
    endpoint: str = ""
    network: Literal["public", "vpc"] = "public"
    allow_endpoint: bool = False
    account_id: str = ""
    sts_endpoint: str = ""
    signature: Literal["roa", "v3"] = "roa"
    client_info: ClientInfo = ClientInfo()
    ca_file: str = ""

    # Pace
    rate_per_second: float = 19.80
    raised_quota: bool = False
    shared_quota: bool = False
    concurrency: int = 256
    reserve_per_second: float = 0.0
    retry_after_cap_seconds: float = 300.0
    outage_limit_minutes: float = 60.0

    # Deadlines
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 30.0
    total_timeout_seconds: float = 60.0
    grace_seconds: float = 30.0

    # Input
    format: Literal["", "csv", "tsv", "jsonl", "ndjson", "json", "parquet"] = ""
    columns: dict[str, str] = {}
    delimiter: str = ""
    person_id_pattern: str = "[A-Za-z0-9_-]{1,32}"
    face_id_pattern: str = "[0-9]{1,32}"
    skip_invalid: bool = False
    max_line_bytes: int = 8 * 1024 * 1024
    max_expanded_bytes: int = 1024**4
    max_expansion_ratio: float = 2000.0

    # Evidence
    absence_interval_seconds: float = 3.0
    max_attempts: int = 3
    max_lookups: int = 5
    max_rounds: int = 5
    verify: str = "none"
    unknown_person: Literal["", "code-404", "code-400", "empty-data", "empty-list"] = ""
    treat_no_person_as_absent: bool = False

    # Whole persons
    whole_persons: bool = False
    delete_person: bool = False

    # Safety
    max_delete: int = 0
    max_persons: int = 0
    exclude_from: str = ""
    require_excludes: bool = False
    plan_ttl_hours: float = 24.0
    allow_oversized_persons: bool = False
    accept_ids: bool = False

    # Belts
    halt: str = "never"
    canary: str = "none"
    max_duration: str = "none"
    window: str = "always"
    time_zone: str = ""
    outside_window: Literal["stop", "wait"] = "stop"
    stop_file: str = ""
    pause_file: str = ""

    # Output
    run_dir: str = ""
    report_format: Literal["csv", "parquet"] = "csv"
    log_format: Literal["console", "json"] = "console"
