"""The benchmark: measures speed and cost, and compares them with the goals. A missed goal is not an error.

- `interpreter`: the Python that is measured
- `environment`: a control plane, an emulator and an operator for each part; `client`: the benchmark's own API client
- `usage`: CPU, memory and connections of processes, and the API server's request counts
- `converge`, `renewals`, `outage`: the parts; `startup` splits a restart
- `hundred_thousand`: a part that is started by hand; `spread` makes its renewals due evenly
- `sample`: a copy of what the operator sends, `issuance_requests`: the same for other TokenRequests
- `request_cost`: one kind of them at a time; `raw`: all of them from a minimal client, as the lower bound
- `endpoint`: the credential endpoint for a pod's SDKs; `load` sends its requests from another process
- `table`: the output
"""
