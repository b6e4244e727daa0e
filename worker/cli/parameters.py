"""What may follow a flag: counts, rates and texts, refused with a sentence where they cannot be meant."""

from __future__ import annotations

import re
from typing import Any

import click


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
    """Calls per second; above 0, whole or with a decimal point."""

    name = "calls/s"
    greatest = 1_000_000

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        if not (
            re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) and 0 < float(value) <= self.greatest
        ):
            self.fail(
                f"found {_shown(value)}, and a number of calls per second above 0 and up to "
                f"{self.greatest} is expected, like 19.8",
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


def _shown(value: str) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
