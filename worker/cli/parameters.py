"""What may follow a flag: counts, rates, hours and texts, refused with a sentence where they cannot be meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Count(click.ParamType[int]):
    """A whole number in plain ASCII digits."""

    name = "count"

    def __init__(self, least: int, greatest: int, unit: str) -> None:
        self.least, self.greatest, self.unit = least, greatest, unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not (re.fullmatch(r"[0-9]{1,18}", value) and self.least <= int(value) <= self.greatest):
            self.fail(
                f"found {_shown(value)}, and a whole number of {self.unit} from {self.least} to "
                f"{self.greatest} is expected, in digits without separators",
                param,
                ctx,
            )
        return int(value)


class Rate(click.ParamType[float]):
    """Calls per second; whole or with a decimal point."""

    name = "calls/s"
    least = 0.001
    greatest = 1_000_000

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        if not (
            re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value)
            and self.least <= float(value) <= self.greatest
        ):
            self.fail(
                f"found {_shown(value)}, and a number of calls per second from {self.least} to "
                f"{self.greatest} is expected, like 19.8",
                param,
                ctx,
            )
        return float(value)


class Hours(click.ParamType[float]):
    """How long something is valid; above 0, whole or with a decimal point."""

    name = "hours"
    greatest = 8_760

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        if not (
            re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) and 0 < float(value) <= self.greatest
        ):
            self.fail(
                f"found {_shown(value)}, and a number of hours above 0 and up to {self.greatest} is "
                "expected, like 24 or 0.5",
                param,
                ctx,
            )
        return float(value)


class Text(click.ParamType[str]):
    """Any text but an empty one or what is plainly the next flag."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail(
                "found an empty value; is the shell variable that should fill it unset?", param, ctx
            )
        if value.startswith("--"):
            self.fail(
                f"found {_shown(value)}, which is a flag; its own value is missing", param, ctx
            )
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 (click calls it so)
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem[str]]:
        from worker.cli.candidates import of_kind  # noqa: PLC0415 (start-up)

        return of_kind(self.name, incomplete)


def _shown(value: str) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
