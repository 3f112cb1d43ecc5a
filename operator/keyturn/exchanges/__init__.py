"""The calls that exchanges make, one module or package per external system."""
