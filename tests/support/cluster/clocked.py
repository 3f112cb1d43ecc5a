"""`python -m tests.support.cluster.clocked FILE ...` is `python -m keyturn ...` with a clock that FILE sets ahead.

The command line is the only place that knows the real clock: what is put in its place there is all that there is.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from keyturn.cli import clock, main


def run() -> None:
    """Run the command line by a clock that can be set."""
    ahead, real = Path(sys.argv.pop(1)), clock.now

    def now() -> datetime:
        return real() + timedelta(seconds=float(ahead.read_text()))

    # A command is read when it is called, and so finds this one.
    clock.now = now
    main()


if __name__ == "__main__":
    run()
