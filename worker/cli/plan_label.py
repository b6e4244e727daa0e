"""What stands on a plan that waits to be carried out: where it lies, and how long it is valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from worker.cli import stdout
from worker.cli.plan_directory import quoted
from worker.cli.preview import plan_document, plan_lines
from worker.cli.target import Target
from worker.plan import PlanFigures
from worker.report.times import iso_utc
from worker.settings import Settings

HOUR_US: Final = 3_600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Label:
    """A plan in a directory of its own."""

    directory: Path
    run_id: str
    planned_us: int
    expires_us: int
    streams: tuple[str, ...]
    """Sources that nobody can compare."""
    holds: int
    """Entries of the exclusion list."""

    @property
    def command(self) -> str:
        """What carries it out."""
        return f"facepurge run {quoted(self.directory)}"

    def lines(self) -> list[str]:
        """Behind those of the plan itself."""
        lines = [
            f"  planned   {at(self.planned_us)}, valid until {at(self.expires_us)}",
            f"  directory {self.directory}",
        ]
        for name in self.streams:
            what = "standard input" if name == "-" else name
            lines.append(
                f"  note      {what} can be read only once: nobody can tell later whether it changed"
            )
        return lines

    def document(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "directory": str(self.directory),
            "run_id": self.run_id,
            "planned_at": iso_utc(self.planned_us),
            "valid_until": iso_utc(self.expires_us),
            "not_comparable": self.streams,
            "holds": self.holds,
            "next": self.command,
        }


def tell(
    label: Label, figures: PlanFigures, settings: Settings, target: Target, *lines: str, json: bool
) -> None:
    """The plan as the result of a verb, on stdout; ``lines`` come before those of the label."""
    if json:
        left = settings.rate_per_second - settings.reserve_per_second
        document = plan_document(figures, left, target.endpoint)
        document |= {"account": target.account, "plan": label.document()}
        stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode())
        return
    shown = plan_lines(figures, settings, target.endpoint, target.account)
    stdout.write("\n".join(["plan", *shown, *lines, *label.lines()]))


def expires_us(planned_us: int, settings: Settings) -> int:
    """When a plan ceases to be valid, in microseconds since the epoch."""
    return planned_us + round(settings.plan_ttl_hours * HOUR_US)


def at(instant_us: int) -> str:
    """To the second: ``2026-01-31T23:59:59Z``."""
    return iso_utc(instant_us).partition(".")[0] + "Z"
