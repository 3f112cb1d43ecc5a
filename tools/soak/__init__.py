"""The soak: two operators under random faults, while the guarantees are checked continuously.

- `scenario`: the cluster, the operators, the sources and the TokenRequests
- `faults`: the faults, in an order that depends on a seed; `journal`: the faults that occurred, and the violations
- `invariants`: the invariants to check; `growth`: descriptors, threads, tasks and memory of the leader
- `counted_operator`: the operator, which also reports its number of tasks
"""
