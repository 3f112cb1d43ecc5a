"""Rendering: how pipeline values are written into a Secret, one function per format."""
