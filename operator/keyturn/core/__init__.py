"""Decisions without I/O: values in, values out; the time and random numbers are arguments."""
