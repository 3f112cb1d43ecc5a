"""The soak: two operators under random faults, with the guarantees checked all the time.

- `scenario`: the cluster, the operators, the sources and the TokenRequests
- `faults`: what goes wrong, at random from a seed; `journal`: what went wrong and when
- `invariants`: what must hold; `growth`: descriptors, threads, tasks and memory of the leader
- `counted_operator`: the operator, which also reports its number of tasks
"""
