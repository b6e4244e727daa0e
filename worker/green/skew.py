"""The service's time: this machine's clock and a correction learnt from a refusal."""

from __future__ import annotations

from worker.clock import Clock
from worker.green.hints import server_time_us
from worker.green.interface import Reply


class ServerClock:
    """What signatures are dated by.

    The service refuses dates more than 15 minutes off. Each refusal may set the clock by the
    server's ``Date``, but not twice in a row: a correction that was refused at once is no cure.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us = 0
        self._setting = 0
        self._proven = True

    @property
    def setting(self) -> int:
        """Number of the present correction; 0 is this machine's own time."""
        return self._setting

    def now_us(self) -> int:
        """Microseconds since the epoch, as the service presumably counts them."""
        return self._clock.now_us() + self._offset_us

    def accepted(self, setting: int) -> None:
        """The service accepted a date made under ``setting``."""
        if setting == self._setting:
            self._proven = True

    def refused(self, setting: int, reply: Reply) -> bool:
        """The service refused a date made under ``setting``; whether another try can succeed."""
        if setting != self._setting:
            return True
        server_us = server_time_us(reply.headers)
        if server_us is None or not self._proven:
            return False
        self._offset_us = server_us - reply.ended_us
        self._setting += 1
        self._proven = False
        return True
