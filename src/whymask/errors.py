"""The one exception that a user is meant to read."""


class WhymaskError(Exception):
    """Something the user gave cannot be used.

    The message says what was given, what was expected, and what to do. The command line prints it without a
    traceback and exits with code 2.
    """
