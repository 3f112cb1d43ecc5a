"""`python -m tests.support.cluster.settable_clock FILE ...` runs `python -m keyturn ...` with a shifted clock.

FILE contains by how many seconds the clock is ahead of the real one. Only the command line reads the real clock, so
that replacing it there is enough.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from keyturn.cli import clock, main


def run() -> None:
    """Run the command line with the shifted clock."""
    offset_file, real_now = Path(sys.argv.pop(1)), clock.now

    def now() -> datetime:
        return real_now() + timedelta(seconds=float(offset_file.read_text()))

    # Commands look up clock.now when they are called.
    clock.now = now
    main()


if __name__ == "__main__":
    run()
