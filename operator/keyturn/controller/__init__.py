"""The operator in a cluster: watches, work queue, leader election, and reads and writes of the Kubernetes API."""
