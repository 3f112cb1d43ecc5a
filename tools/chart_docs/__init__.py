"""What a program writes of the chart: the schema of `config` from the settings, the README's table of values.

`python -m tools.chart_docs` writes it; with `--check` it only reports what is outdated.
"""
