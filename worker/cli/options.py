"""The options that verbs share, in groups: one decorator each, and what was given of them.

Only flags that were really typed reach the settings; everything else is left to the environment,
the configuration file and the defaults (``worker.configuration``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from worker.cli.parameters import Count, Hours, Rate, Text
from worker.cli.verb import GroupedOption

if TYPE_CHECKING:
    from worker.configuration import Configuration, Given

F = TypeVar("F", bound=Callable[..., Any])

SETTING_OF: Final = MappingProxyType(
    {
        "format": "format",
        "columns": "columns",
        "delimiter": "delimiter",
        "skip_invalid": "skip_invalid",
        "max_delete": "max_delete",
        "max_persons": "max_persons",
        "exclude_from": "exclude_from",
        "require_excludes": "require_excludes",
        "plan_ttl": "plan_ttl_hours",
        "allow_oversized_persons": "allow_oversized_persons",
        "accept_ids": "accept_ids",
        "whole_persons": "whole_persons",
        "delete_person": "delete_person",
        "max_attempts": "max_attempts",
        "verify": "verify",
        "treat_no_person_as_absent": "treat_no_person_as_absent",
        "raised_quota": "raised_quota",
        "allow_endpoint": "allow_endpoint",
        "region": "region",
        "endpoint": "endpoint",
        "rate": "rate_per_second",
        "concurrency": "concurrency",
        "reserve": "reserve_per_second",
        "signature": "signature",
        "halt": "halt",
        "canary": "canary",
        "max_duration": "max_duration",
        "window": "window",
        "time_zone": "time_zone",
        "outside_window": "outside_window",
        "stop_file": "stop_file",
        "pause_file": "pause_file",
        "run_dir": "run_dir",
        "report_format": "report_format",
        "log_format": "log_format",
    }
)
"""Parameter name to the setting it overrides; other parameters steer the verb itself."""

_COUNT_AT_MOST = 10**12

_source = partial(click.option, cls=GroupedOption, heading="Source")
_safety = partial(click.option, cls=GroupedOption, heading="Safety")
_evidence = partial(click.option, cls=GroupedOption, heading="Evidence")
_belts = partial(click.option, cls=GroupedOption, heading="Belts")
_service = partial(click.option, cls=GroupedOption, heading="Service")
_general = partial(click.option, cls=GroupedOption, heading="General")


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """The options as one decorator, in the help in the order given here."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


source_options = _stack(
    _source(
        "--format",
        type=click.Choice(["csv", "tsv", "jsonl", "ndjson", "json", "parquet"]),
        help="What the sources hold, where the file's extension does not say.",
    ),
    _source(
        "--columns",
        type=Text("person=P,face=F,job=J,due=D"),
        help="Names of the columns or keys, e.g. person=customer,face=image,due=deadline.",
    ),
    _source("--delimiter", type=Text("CHAR"), help="Delimiter of CSV columns, e.g. ';'."),
)
"""``format, columns, delimiter``."""

max_delete_option = _safety(
    "--max-delete",
    type=Count(1, _COUNT_AT_MOST, "faces"),
    metavar="N",
    help="Send nothing if the plan has more than N faces, and stop if whole persons have more.",
)
"""``max_delete``."""

plan_safety_options = _stack(
    _safety(
        "--skip-invalid",
        is_flag=True,
        help="Record doubtful rows as invalid and go on, instead of stopping before any call.",
    ),
    max_delete_option,
    _safety(
        "--max-persons",
        type=Count(1, _COUNT_AT_MOST, "persons"),
        metavar="N",
        help="Send nothing if the plan has more than N persons; required for whole persons.",
    ),
    _safety(
        "--exclude-from",
        type=Text("FILE"),
        help="Legal holds, one 'person' or 'person,face' a line; these are never sent.",
    ),
    _safety(
        "--require-excludes",
        is_flag=True,
        help="Send nothing without --exclude-from, or with an empty file in its place.",
    ),
    _safety(
        "--plan-ttl",
        type=Hours(),
        metavar="HOURS",
        help="How long a plan of plan -o may be run; default 24. A plan's own may be shortened.",
    ),
    _safety(
        "--allow-oversized-persons",
        is_flag=True,
        help="Accept more than the documented 20 faces for one person.",
    ),
    _safety(
        "--accept-ids",
        is_flag=True,
        help="The IDs are right, although they look as if something had rounded or cut them.",
    ),
    _safety(
        "--whole-persons",
        is_flag=True,
        help="Every row of a table without a face column asks for everything of its person.",
    ),
    _safety(
        "--delete-person",
        is_flag=True,
        help="Delete the record of a whole person too, once the faces are gone.",
    ),
)
"""``skip_invalid, max_delete, max_persons, exclude_from, require_excludes, plan_ttl,
allow_oversized_persons, accept_ids, whole_persons, delete_person``."""

confirmation_options = _stack(
    _safety("--yes", is_flag=True, help="Delete without asking, however many faces there are."),
    _safety(
        "--confirm",
        type=Count(1, _COUNT_AT_MOST, "faces or persons"),
        metavar="COUNT",
        help="Delete without asking, if exactly COUNT distinct faces are to be sent; persons, if "
        "everything of some is to go.",
    ),
)
"""``yes, confirm``."""

same_account_option = _safety(
    "--same-account",
    is_flag=True,
    help="The AccessKey changed since the plan, and it is of the same account, which nobody can tell "
    "from the keys.",
)
"""``same_account``."""

same_run_options = _stack(
    same_account_option,
    _safety(
        "--swap-explained",
        is_flag=True,
        help="A swapped answer stopped this run, and it is known why.",
    ),
)
"""``same_account, swap_explained``."""

dry_run_option = _safety(
    "--dry-run", is_flag=True, help="Do everything but send; wins over every other flag."
)
"""``dry_run``."""

attempts_option = _evidence(
    "--max-attempts",
    type=Count(1, 100, "attempts"),
    metavar="N",
    help="Deletions of one face at most; default 3.",
)
"""``max_attempts``."""

evidence_options = _stack(
    attempts_option,
    _evidence(
        "--verify",
        type=Text("WHAT"),
        metavar="none|sample:N|all",
        help="Look up again what is gone, for N persons or all, once everything is settled.",
    ),
    _evidence(
        "--treat-no-person-as-absent",
        is_flag=True,
        help="Where the service knows no such person, the faces are as wanted: gone.",
    ),
)
"""``max_attempts, verify, treat_no_person_as_absent``."""

reserve_option = _belts(
    "--reserve",
    type=Rate(),
    metavar="N",
    help="Calls per second, of --rate, to leave to others on the account; a throttled batch yields.",
)
"""``reserve``."""

halt_options = _stack(
    _belts(
        "--halt",
        type=Text("WHEN,CONDITION"),
        help="Stop a run that goes badly: soon,fail=20 or now,present=5%; 'never' is the default.",
    ),
    _belts(
        "--canary",
        type=Text("N[,N...]"),
        help="So many persons first, each stage looked up before the next, e.g. 1,20; 'none' for all.",
    ),
)
"""``halt, canary``."""

hours_options = _stack(
    _belts(
        "--max-duration",
        type=Text("DURATION"),
        help="End this session after so long, e.g. 6h, 90m, 1d12h; 'none' is the default.",
    ),
    _belts(
        "--window",
        type=Text("HH:MM-HH:MM[,...]"),
        help="Times of the day for calls, e.g. 22:00-06:00; 'always' is the default.",
    ),
    _belts(
        "--time-zone",
        type=Text("ZONE"),
        help="Of --window, e.g. Europe/Berlin; default the machine's.",
    ),
    _belts(
        "--outside-window",
        type=click.Choice(["stop", "wait"]),
        help="Outside of --window: stop, resumable (default), or wait for its next opening.",
    ),
    _belts("--stop-file", type=Text("FILE"), help="Stop, resumable, as soon as this file exists."),
    _belts("--pause-file", type=Text("FILE"), help="Pause while this file exists."),
)
"""``max_duration, window, time_zone, outside_window, stop_file, pause_file``."""

belt_options = _stack(halt_options, reserve_option, hours_options)
"""What stops, pauses or slows a run by itself: what every verb takes that deletes."""

looking_belt_options = _stack(reserve_option, hours_options)
"""Of these, what a verb takes that only looks."""

service_options = _stack(
    _service("--region", type=Text("REGION"), help="Region of the face library, e.g. cn-shanghai."),
    _service(
        "--endpoint", type=Text("URL"), help="Address of the service, instead of the region's own."
    ),
    _service(
        "--allow-endpoint",
        is_flag=True,
        help="Accept an endpoint other than green*.aliyuncs.com and loopback.",
    ),
    _service(
        "--rate",
        type=Rate(),
        metavar="N",
        help="Calls per second for each operation; default 19.8, documented limit 20.",
    ),
    _service(
        "--raised-quota",
        is_flag=True,
        help="Accept a rate above 20: Alibaba Cloud has raised this account's quota.",
    ),
    _service(
        "--concurrency",
        type=Count(1, 5_000, "calls in flight"),
        metavar="N",
        help="Most calls in flight at any time; default 256.",
    ),
    _service(
        "--signature",
        type=click.Choice(["roa", "v3"]),
        help="Signature scheme: roa as the service documents it (default), or v3.",
    ),
)
"""``region, endpoint, allow_endpoint, rate, raised_quota, concurrency, signature``."""

sandbox_option = _service(
    "--sandbox",
    is_flag=True,
    help="Rehearse against the built-in emulator; real keys are never used.",
)
"""``sandbox``."""

output_option = _general(
    "-o",
    "--output",
    type=Text("DIR"),
    help="Keep the plan in DIR; facepurge run DIR carries out exactly that.",
)
"""``output``."""

run_dir_option = _general(
    "--run-dir", type=Text("DIR"), help="Directory for ledger and report; default runs/<run-id>."
)
"""``run_dir``."""

report_format_option = _general(
    "--report-format",
    type=click.Choice(["csv", "parquet"]),
    help="With parquet, results.parquet too; results.csv and results.jsonl are always written.",
)
"""``report_format``."""

config_option = _general(
    "--config",
    type=Text("FILE"),
    help="TOML file of settings, like configs/reference.toml; flags and FACEPURGE_* win over it.",
)
"""``config``."""

json_option = _general("--json", is_flag=True, help="Write the result to stdout as JSON.")
"""``json``."""

log_options = _stack(
    _general(
        "--log-format",
        type=click.Choice(["console", "json"]),
        help="How stderr is written; json is one object a line.",
    ),
    _general("-v", "--verbose", is_flag=True, help="Log more: every call, by source:line."),
    _general("-q", "--quiet", is_flag=True, help="No progress; warnings and the last line only."),
)
"""``log_format, verbose, quiet``."""

safety_options = _stack(confirmation_options, dry_run_option, plan_safety_options)
"""All of safety: what ``run`` takes."""

general_options = _stack(
    config_option, run_dir_option, report_format_option, log_options, json_option
)
"""All that is general: what ``run`` takes."""


def flags_to_settings(ctx: click.Context) -> dict[str, Given]:
    """The settings that were given on the command line, with the flag each came by.

    Raises ``worker.errors.UsageRefused`` for ``--columns`` in another form than name=value pairs.
    """
    from worker.configuration import Given, pairs  # noqa: PLC0415 (start-up: --help needs none of it)

    flags = {param.name: param.opts[-1] for param in ctx.command.params}
    given: dict[str, Given] = {}
    for name, value in ctx.params.items():
        typed = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if typed and name in SETTING_OF:
            flag = flags[name]
            given[SETTING_OF[name]] = Given(
                pairs(value, flag) if name == "columns" else value, flag
            )
    return given


def configuration(ctx: click.Context) -> Configuration:
    """The configuration in force for this invocation of a verb.

    Raises what ``worker.configuration.load`` raises.
    """
    from worker.configuration import load  # noqa: PLC0415 (start-up: --help needs none of it)

    flags = {param.name or "" for param in ctx.command.params if isinstance(param, click.Option)}
    return load(
        flags_to_settings(ctx),
        os.environ,
        ctx.params.get("config"),
        known_flags={**dict.fromkeys(flags, ""), **SETTING_OF},
    )
