"""``facepurge resume``: go on with a run that is not finished."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from worker.cli import stderr
from worker.cli.ending import NOTHING_SENT, known
from worker.cli.options import (
    config_option,
    configuration,
    confirmation_options,
    json_option,
    log_options,
    service_options,
)
from worker.cli.verb import GroupedOption, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.configuration import Configuration
    from worker.model import StopReason
    from worker.report.interface import RunHeader
    from worker.settings import Settings

EXAMPLES = """\
facepurge resume runs/20261123T185054Z-3f9a1c
facepurge resume runs/20261123T185054Z-3f9a1c --confirm 4711 --rate 5"""


@verb("resume", examples=EXAMPLES)
@click.argument("run_dir", metavar="RUN_DIR")
@confirmation_options
@service_options
@config_option
@log_options
@json_option
@click.option(
    "--same-account",
    is_flag=True,
    cls=GroupedOption,
    heading="Safety",
    help="The AccessKey changed since the plan, and it is of the same account.",
)
@click.option(
    "--swap-explained",
    is_flag=True,
    cls=GroupedOption,
    heading="Safety",
    help="A swapped answer stopped this run, and it is known why.",
)
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    run_dir: str,
    *,
    yes: bool,
    confirm: int | None,
    same_account: bool,
    swap_explained: bool,
    json: bool,
    verbose: bool,
    quiet: bool,
    **_settings: object,
) -> int:
    """Send what the run in RUN_DIR has not sent yet, and nothing else.

    What was in flight when a process died stays unknown. The settings are those of the run;
    flags, environment and --config change them, but never the account or the endpoint.
    """
    from pathlib import Path  # noqa: PLC0415 (start-up: --help needs none of these)

    from worker import telemetry  # noqa: PLC0415
    from worker.cli import consent  # noqa: PLC0415
    from worker.cli.concluding import conclude_run  # noqa: PLC0415
    from worker.cli.planning import counted  # noqa: PLC0415
    from worker.ledger.books import LedgerBooks  # noqa: PLC0415
    from worker.ledger.database import open_ledger, require_ledger  # noqa: PLC0415
    from worker.locks import run_lock  # noqa: PLC0415

    directory = Path(run_dir)
    with ExitStack() as ours:
        with known(NOTHING_SENT), consent.terminating():
            require_ledger(directory)
            ours.enter_context(run_lock(directory))
            books = LedgerBooks(open_ledger(directory, read_only=True))
            try:
                header, waiting = books.header(), books.faces_waiting()
                reasons = [session.stop_reason for session in books.sessions()]
            finally:
                books.close()
            settings = _settings_of(header, configuration(ctx))
            stderr.begin(settings.log_format)
            telemetry.configure(settings.log_format, verbose - quiet, sys.stderr)
            if waiting:
                _require_explanation(reasons, swap_explained=swap_explained)
                if not header.rehearsal:
                    _same_target(header, settings, same_account=same_account)
                consent.obtain(
                    [f"  {counted(waiting, 'face')} of run {header.run_id} not sent yet"],
                    waiting,
                    yes=yes or header.rehearsal,
                    confirm=confirm,
                    stdin_is_a_source=False,
                    quiet=quiet,
                )
        return conclude_run(directory, settings, json=json, quiet=quiet)


def _require_explanation(reasons: Sequence[StopReason], *, swap_explained: bool) -> None:
    """A swapped answer has stopped the run for a person to look at. Raises ``GateClosed``."""
    from worker.errors import GateClosed  # noqa: PLC0415 (start-up)
    from worker.model import StopReason  # noqa: PLC0415

    if StopReason.SWAPPED in reasons and not swap_explained:
        raise GateClosed(
            "an answer of the service spoke of another person or face, and the run was stopped so"
            " that nobody goes on before that is explained",
            "read report/failures.csv, ask Alibaba Cloud with its request IDs, and add"
            " --swap-explained once you know why",
        )


def _settings_of(header: RunHeader, given: Configuration) -> Settings:
    """The run's own settings, with what was said about this session laid over them."""
    import msgspec  # noqa: PLC0415 (start-up)

    from worker.cli.planning import anchored  # noqa: PLC0415
    from worker.limits import check  # noqa: PLC0415
    from worker.settings import Settings  # noqa: PLC0415

    stored = msgspec.convert(header.settings, Settings)
    default = Settings()
    said = {
        key: getattr(given.settings, key)
        for key, origin in given.origins.items()
        # A file that merely repeats the defaults, as the reference does, changes nothing: least of
        # all does it take the exclusion list away.
        if origin.startswith("--")
        or (origin != "default" and getattr(given.settings, key) != getattr(default, key))
    }
    settings = anchored(msgspec.structs.replace(stored, **said))
    check(settings, given.origins)
    return settings


def _same_target(header: RunHeader, settings: Settings, *, same_account: bool) -> None:
    """A run belongs to its account and endpoint. Raises ``GateClosed`` naming the difference."""
    from worker.cli import purge  # noqa: PLC0415 (start-up)
    from worker.errors import GateClosed  # noqa: PLC0415

    remedy = "use the account and endpoint of the run, or plan a new run from the original input"
    address = purge.endpoint_of(settings).url_base
    if address != header.endpoint:
        raise GateClosed(
            f"the run belongs to {header.endpoint}, and the settings now say {address}", remedy
        )
    account = purge.account_of(settings)
    if account != header.account and not same_account:
        raise GateClosed(
            f"the run belongs to {header.account}, and the credentials now are {account}",
            f"{remedy}; if this is another key of the same account, add --same-account",
        )
