"""`python -m tools.soak.counted_operator FILE ...` runs `python -m keyturn ...`.

On SIGRTMIN the process writes its number of asyncio tasks to FILE, because no metric contains it. The operator stops at
most other signals.
"""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from keyturn import cli

if __name__ == "__main__":
    file = Path(sys.argv.pop(1))

    def write_count(*_: object) -> None:
        with suppress(RuntimeError):  # no loop runs yet
            file.write_text(str(len(asyncio.all_tasks())))

    signal.signal(signal.SIGRTMIN, write_count)
    cli.main()
