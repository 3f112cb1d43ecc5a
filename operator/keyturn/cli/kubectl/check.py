"""kubectl keyturn check: the same as keyturn check, and without a cluster."""

from keyturn.cli.check import check

__all__ = ["check"]
