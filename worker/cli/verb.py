"""A verb of the program: a click command with grouped options, examples and refused contradictions."""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable
from typing import Any, Final

import click

from worker.cli import stdout
from worker.cli.candidates import BY_METAVAR, Offered
from worker.cli.parameters import Rate
from worker.spelling import nearest

_NO_CALL = "--self reads the run directory and makes no call"

CONTRADICTIONS: Final[tuple[tuple[str, str, str], ...]] = (
    ("yes", "confirm", "--yes accepts any number of faces and --confirm only the one given"),
    ("sandbox", "endpoint", "--sandbox rehearses against its own server, never another one"),
    ("sandbox", "region", "--sandbox rehearses against its own server, never a region's"),
    (
        "sandbox",
        "allow_endpoint",
        "--sandbox rehearses against its own server, never a foreign one",
    ),
    ("sandbox", "same_account", "--sandbox uses a key of its own, which never changes"),
    ("output", "run_dir", "the directory of a plan is the run directory of what it becomes"),
    ("verbose", "quiet", "-v asks for more and -q for less"),
    *(
        ("self_", name, _NO_CALL)
        for name in (
            *("region", "endpoint", "allow_endpoint", "rate", "raised_quota", "concurrency"),
            *("signature", "same_account", "swap_explained", "reserve", "max_duration", "window"),
            *("time_zone", "outside_window", "stop_file", "pause_file"),
        )
    ),
    ("state", "generate", "each of them says what the library holds at the beginning"),
)
"""Pairs of parameters that cannot both be meant, and why."""

_ROWS_OF_A_TABLE = "a delimiter stands between the columns of a table, and JSON has none"
_NO_QUOTA = "without a quota no call is counted or refused"

CONTRADICTORY_VALUES: Final[tuple[tuple[str, str, Callable[[Any, Any], bool], str], ...]] = (
    (
        "format",
        "delimiter",
        lambda format_, _: format_ in ("json", "jsonl", "ndjson"),
        _ROWS_OF_A_TABLE,
    ),
    (
        "format",
        "delimiter",
        lambda format_, delimiter: format_ == "tsv" and delimiter != "\t",
        "tsv says that tabs stand between the columns; for anything else name --format csv",
    ),
    (
        "format",
        "whole_persons",
        lambda format_, _: format_ in ("json", "jsonl", "ndjson"),
        "it is about tables without a face column, and JSON says in each record what it asks for",
    ),
    (
        "columns",
        "whole_persons",
        lambda columns, _: any(pair.startswith("face=") for pair in columns.split(",")),
        "one names a face column, the other says that there is none",
    ),
    *(
        ("quota", name, lambda quota, _: quota == "off", _NO_QUOTA)
        for name in (
            *("quota_rate", "quota_burst", "quota_shared", "quota_count_throttled"),
            *("throttle", "retry_after", "acs_retry_after"),
        )
    ),
    (
        "quota",
        "quota_burst",
        lambda quota, _: quota in ("sliding", "calendar"),
        "only a bucket saves up calls",
    ),
    ("state", "log", operator.eq, "the request log would be written into the state"),
)
"""Pairs that cannot both be meant for some values: two parameters, for which of them, and why."""


def _always(_one: Any, _other: Any) -> bool:
    return True


class GroupedOption(click.Option):
    """An option that knows under which heading of the help it belongs."""

    def __init__(self, *args: Any, heading: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading


def show_help(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 (click's callback)
    """Write the help as a result, so that a lost stdout is noticed, and end the program."""
    if asked and not ctx.resilient_parsing:
        stdout.write(ctx.get_help())
        ctx.exit()


class Verb(click.Command):
    """A command whose callback returns the exit code, or None for 0."""

    refused = ""
    """What the last line says where the arguments cannot be meant; ``""`` for the usual."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if self.refused:
                error.add_note(self.refused)
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = tuple(args)  # parsing uses them up
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as unknown:
            self._refuse_negative(unknown.option_name, typed, ctx)
            said = unknown_flag(unknown, self, ctx)
            raise click.NoSuchOption(unknown.option_name, said, ctx=ctx) from None
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # so that the help of this verb is named
            raise

    def _refuse_negative(self, option: str, typed: tuple[str, ...], ctx: click.Context) -> None:
        """Raise what a number below 0 comes to, where it stands for an argument and for no flag."""
        arguments = [x for x in self.params if isinstance(x, click.Argument)]
        numbers = [x for x in arguments if isinstance(x.type, Rate)]
        if numbers and re.match(r"-[0-9.]", option):
            value = next(arg for arg in typed if arg.startswith(option))
            numbers[0].type.convert(value, numbers[0], ctx)

    def invoke(self, ctx: click.Context) -> Any:
        given = {
            name
            for name in ctx.params
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
        flags = {param.name: param.opts[-1] for param in self.params}
        pairs = [(one, other, _always, why) for one, other, why in CONTRADICTIONS]
        for one, other, holds, why in (*pairs, *CONTRADICTORY_VALUES):
            if {one, other} <= given and holds(ctx.params[one], ctx.params[other]):
                raise click.UsageError(
                    f"{flags[one]} and {flags[other]} contradict each other: {why}; keep one", ctx
                )
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and record[1]:
                headings.setdefault(getattr(param, "heading", "Options"), []).append(record)
        for heading, records in sorted(headings.items(), key=lambda item: item[0] == "General"):
            with formatter.section(heading):
                formatter.write_dl(records, col_max=28)


def unknown_flag(unknown: click.NoSuchOption, command: click.Command, ctx: click.Context) -> str:
    """The sentence about a flag that ``command`` does not have, with the nearest that it has."""
    flag = unknown.option_name
    # Their dashes are alike in all of them.
    names = [name[2:] for param in command.params for name in param.opts if name[:2] == "--"]
    meant = nearest(flag.lstrip("-"), names)
    hint = f"did you mean --{meant}?" if meant else "none of its flags is near that"
    return f"{flag[:40]} is not a flag of {ctx.command_path}: {hint}"


help_option = click.option(
    "-h",
    "--help",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_help,
    cls=GroupedOption,
    heading="General",
    help="Show this and exit.",
)
"""``-h``, ``--help``."""


def verb(
    name: str, *, examples: str = "", refused: str = ""
) -> Callable[[Callable[..., int | None]], Verb]:
    """The decorator of a verb's function; ``examples`` are lines of the help, one command each.

    ``refused`` is ``Verb.refused``.
    """
    epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples.splitlines())

    def decorate(function: Callable[..., int | None]) -> Verb:
        command: Verb = click.command(
            name, cls=Verb, epilog=epilog if examples else None, add_help_option=False
        )(help_option(function))
        command.refused = refused
        for param in command.params:
            if isinstance(param, click.Argument) and param.metavar in BY_METAVAR:
                param.type = Offered(BY_METAVAR[param.metavar])
        return command

    return decorate


def typed(ctx: click.Context) -> str:
    """The command as it was typed, fit for a shell; what a flag said in another way is said plainly."""
    words: list[str] = []
    for param in ctx.command.params:
        name = param.name or ""
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        if isinstance(param, click.Option):
            flag = param.opts[-1]
            if param.count:
                words += [flag] * value
            else:
                words += [flag] if param.is_flag else [flag, _as_typed(value)]
        else:
            words += [str(value)] if value is not None else []
    return shlex.join([*ctx.command_path.split(), *words])


def _as_typed(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
