"""The Kubernetes shell: what happens in the cluster goes on the agenda, what the spine decides is written."""
