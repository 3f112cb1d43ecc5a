"""python -m keyturn."""

from keyturn.cli import main

main()
