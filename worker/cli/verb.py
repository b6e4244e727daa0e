"""A verb of the program: a click command with grouped options, examples and refused contradictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from worker.cli import stdout

CONTRADICTIONS: Final[tuple[tuple[str, str, str], ...]] = (
    ("yes", "confirm", "--yes accepts any number of faces and --confirm only the one given"),
    ("sandbox", "endpoint", "--sandbox rehearses against its own server, never another one"),
    ("sandbox", "region", "--sandbox rehearses against its own server, never a region's"),
    ("verbose", "quiet", "-v asks for more and -q for less"),
)
"""Pairs of parameters that cannot both be meant, and why."""


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

    def invoke(self, ctx: click.Context) -> Any:
        given = {
            name
            for name in ctx.params
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
        flags = {param.name: param.opts[-1] for param in self.params}
        for one, other, why in CONTRADICTIONS:
            if one in given and other in given:
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


def verb(name: str, *, examples: str = "") -> Callable[[Callable[..., int | None]], Verb]:
    """The decorator of a verb's function; ``examples`` are lines of the help, one command each."""
    epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples.splitlines())

    def decorate(function: Callable[..., int | None]) -> Verb:
        command: Verb = click.command(
            name, cls=Verb, epilog=epilog if examples else None, add_help_option=False
        )(help_option(function))
        return command

    return decorate
