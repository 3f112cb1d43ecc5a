"""Generates the reference pages of docs/reference, and the chart's schema of `config`, from the code."""
