"""The benchmark: how fast, at what cost, against the goals. Nothing here asserts a time.

- `ground`: a control plane, an emulator and an operator of their own for each figure; `client`: our own hand in it
- `usage`: CPU, memory and connections of processes, and the API server's count of requests
- `converge`, `renewals`, `outage`: the figures; `raw`: the same requests from a bare client, as the floor
- `endpoint`: what serves the SDKs of a pod, and `load`, which asks it from another process
- `table`: what is printed and written
"""
