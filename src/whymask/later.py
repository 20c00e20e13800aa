"""Settings that a later version brought: while they are at their defaults, a run of before is the same run."""

from dataclasses import asdict, fields
from typing import Any

LATER = {"later": True}
"""Metadata of the field of such a setting; with "before", what it was fixed at where that is not the default."""


def recorded(settings: Any) -> dict[str, Any]:
    """What a run folder records of a dataclass: `asdict`, less the settings of later versions that are at their
    defaults, or as they were before."""
    unset = {
        f.name
        for f in fields(settings)
        if f.metadata.get("later") and getattr(settings, f.name) in (f.default, f.metadata.get("before", f.default))
    }
    return {name: value for name, value in asdict(settings).items() if name not in unset}
