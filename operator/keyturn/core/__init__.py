"""Decisions without I/O: values in, values out; the clock and the dice are arguments."""
