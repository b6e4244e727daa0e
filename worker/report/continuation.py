"""How a run goes on that was stopped for a reason which a plain resume would not mend.

The last line, the causes and the status of a run send a person to the same command.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.model import StopReason


@dataclass(frozen=True, slots=True)
class Continuation:
    """What is known of what such a run has left."""

    directory: str
    """The run's, fit for a shell."""
    failing: str
    """The file that has what is not in a wanted state."""
    is_unsettled: bool
    """Whether something is not known yet, and a resume looks at it again."""
    is_retried: bool
    """Whether a new round may take something up."""

    def after(self, reason: StopReason | None) -> str:
        """The sentence with the next command; ``""`` where ``resume`` alone goes on."""
        resume = f"facepurge resume {self.directory}"
        match reason:
            case StopReason.SWAPPED:
                return f"to see what came type: less {self.failing}"
            case StopReason.LIMIT:
                return f"to go on with a higher limit N type: {resume} --max-delete N"
            case StopReason.HALT:
                return (
                    f"once the cause is mended, to go on with the rest type: {resume} (adding --halt"
                    " never for no such stop)"
                )
            case StopReason.CANARY:
                return self._after_the_canary(resume)
        return ""

    def _after_the_canary(self, resume: str) -> str:
        """What failed is settled by a new round or a resume, and the rest is still to be sent."""
        if self.is_unsettled:
            return f"to look again, and go on if all is gone, type: {resume}"
        lift = f"{resume} --canary none"
        if self.is_retried:
            return (
                "find out why before the rest is sent; to try the canary again and go on type:"
                f" facepurge retry {self.directory} (to go on without one: {lift})"
            )
        return f"find out why before the rest is sent; to go on without a canary type: {lift}"
