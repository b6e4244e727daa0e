"""What every test process begins with."""

from __future__ import annotations

import signal

# A continuous integration that was started by nohup hands its deafness to SIGHUP down, and the program
# rightly takes that for a wish to outlive its terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
