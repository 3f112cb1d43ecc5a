"""Real AWS SDKs, each as a program of its own that lives longer than its credentials."""
