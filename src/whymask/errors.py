"""The one exception that a user is meant to read."""


class WhymaskError(Exception):
    """Something the user gave cannot be used.

    The message says what was given, what was expected, and what to do. The command line prints it without a
    traceback and exits with code 2.
    """


class DamagedError(WhymaskError):
    """A file is not what was written; the message names it and says how it is made again."""


class BusyError(WhymaskError):
    """Another process writes the folder now; the message names it."""


class DeviceLostError(WhymaskError):
    """The GPU computes no more for this process; the message says what is kept, and where."""
