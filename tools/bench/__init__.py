"""The benchmark: measures speed and cost, and compares them with the goals. A missed goal is not an error.

- `environment`: a control plane, an emulator and an operator for each part; `client`: the benchmark's own API client
- `usage`: CPU, memory and connections of processes, and the API server's request counts
- `converge`, `renewals`, `outage`: the parts; `raw`: the same requests from a minimal client, as the lower bound
- `endpoint`: the credential endpoint for a pod's SDKs; `load` sends its requests from another process
- `table`: the output
"""
