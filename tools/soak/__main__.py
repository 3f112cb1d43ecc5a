"""make soak: run for MINUTES with the faults of SEED, print a summary, and exit with 1 after a violation.

Only the first half contains faults that end operators, so that growth can be measured in the second half.
"""

import asyncio
import os
import secrets
import sys
from collections import Counter

import aiohttp

from tests.support.signals import interrupt_on_signals
from tools.soak.faults import inject, restart_ended
from tools.soak.growth import Growth
from tools.soak.invariants import TOLERANCE_SECONDS, Invariants
from tools.soak.journal import Journal
from tools.soak.scenario import running_scenario


async def main() -> int:
    minutes, seed = float(os.environ.get("MINUTES") or 15), os.environ.get("SEED") or str(secrets.randbelow(10**6))
    print(f"{minutes:g} minutes with SEED={seed}, load {os.getloadavg()[0]:.1f}", flush=True)
    journal = Journal()
    async with running_scenario() as scenario, aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        invariants = Invariants(scenario, journal, http)
        background = [
            tasks.create_task(restart_ended(scenario, journal)),
            tasks.create_task(invariants.check_until_cancelled()),
        ]
        await inject(scenario, journal, f"{seed} a", minutes * 30)
        invariants.growth = growth = Growth()
        await inject(scenario, journal, f"{seed} b", minutes * 30, "server", "remote", "secrets")
        scenario.aws.clear_faults()
        await invariants.wait_until_renewed()
        for task in background:
            task.cancel()
        for text in ("internal error", "Traceback"):
            if count := sum(operator.log().count(text) for operator in scenario.operators):
                journal.add_violation(f"the logs contain {text!r} {count} times")
        rows = {
            "TokenRequests": len(scenario.targets),
            "issues and renewals": sum(invariants.revisions().values()),
            "refresh tokens consumed": scenario.aws.calls("oauth:refresh_token"),
            "faults": dict(Counter(fault.kind for fault in journal.faults)),
            "restarts after a lost Lease": journal.restarts,
            "refresh tokens lost, as documented": dict(journal.losses),
            "new sign-ins after a failed final attempt": invariants.sign_ins,
            "longest Ready after the expiry": f"{invariants.longest_stale:.0f} s (limit {TOLERANCE_SECONDS} s)",
            "growth of the leader": growth.judge(journal),
            "load": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs",
            "violations": len(journal.violations),
        }
    print("\n".join(f"{name}: {value}" for name, value in rows.items()))
    return 1 if journal.violations else 0


if __name__ == "__main__":
    interrupt_on_signals()
    sys.exit(asyncio.run(main()))
