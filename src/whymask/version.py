"""The version that is installed; "unknown" of a source tree that is not."""

from whymask.runs import version_of

__version__ = version_of("whymask") or "unknown"
