"""The calls behind the exchanges, one module or package per external system."""
