"""One reconciliation of a TokenRequest, shared by the controller and the standalone mode."""
