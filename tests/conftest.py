"""What every test process begins with."""

from __future__ import annotations

import signal

# Whoever starts the tests in the background or by nohup hands a deafness to these down, and the program
# rightly takes that for a wish: not to be meant by Ctrl-C, or to outlive its terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
