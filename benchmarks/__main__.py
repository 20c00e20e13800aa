"""`python -m benchmarks`: measures, prints a table and writes bench.json; with `--device cuda` on a GPU."""

import sys

from benchmarks.wheels import lacking, told

if __name__ == "__main__":
    if missing := lacking():
        sys.exit(told(missing))
    import tyro

    from benchmarks.choice import main

    tyro.cli(main)
