"""`python -m tests.support.cluster.settable_clock FILE ...` runs `python -m keyturn ...` with a shifted clock.

FILE contains by how many seconds the clock is ahead of the real one. Only the command line reads the real clock, so
that replacing it there is enough.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from keyturn import cli


def run() -> None:
    """Run the command line with the shifted clock."""
    offset_file, real_now = Path(sys.argv.pop(1)), cli.now

    def now() -> datetime:
        return real_now() + timedelta(seconds=float(offset_file.read_text()))

    # The module of a command, which imports the clock, is imported when the command is called.
    cli.now = now
    cli.main()


if __name__ == "__main__":
    run()
