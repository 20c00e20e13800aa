"""Entry point of `whymask`, and of `python -m whymask`: whatever is imported, Ctrl-C is answered with a word."""

import sys


def main() -> None:
    """See `whymask.cli.main`."""
    try:
        from whymask.cli import main as answer

        answer()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
