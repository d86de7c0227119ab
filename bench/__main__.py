"""`python -m bench` is `twoview`."""

from bench.cli import main

main()
