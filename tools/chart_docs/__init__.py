"""Generates parts of the chart: the schema of `config` from the settings, and the table of values in the README.

`python -m tools.chart_docs` writes them; with `--check` it only reports which are outdated.
"""
