"""What lies where a path should: told where there is none, since most of these are mistyped."""

from difflib import get_close_matches
from itertools import islice
from pathlib import Path

LISTED, LOOKED_AT = 5, 10_000
"""Names of a folder that are told, and that are compared."""


def instead_of(given: str | Path) -> str:
    """ "; photos holds test, train; did you mean photos/train?": what the last folder of the path that is there holds,
    and what is spelt most alike; "" where nothing can be said of `given`, which is not there."""
    path = Path(given).expanduser()
    last = next((folder for folder in path.parents if folder.exists()), None)
    if last is None:
        return ""
    if not last.is_dir():
        return f"; {last} is a file, and no folder"
    try:
        names = sorted(entry.name for entry in islice(last.iterdir(), LOOKED_AT) if not entry.name.startswith("."))
    except OSError:  # a folder that may not be read
        return ""
    wanted, *rest = path.relative_to(last).parts
    near = [last / name for name in get_close_matches(wanted, names, n=1)]
    meant = [whole if (whole := found.joinpath(*rest)).exists() else found for found in near]
    is_named = last not in (Path(), Path("/"))  # what the working directory holds, its owner knows
    holds = [f"{last} holds {_listed(names)}"] if is_named else []
    return "".join(f"; {_shown(part)}" for part in [*holds, *(f"did you mean {found}?" for found in meant)])


def _listed(names: list[str]) -> str:
    return ", ".join([*names[:LISTED], *(["..."] if len(names) > LISTED else [])]) or "nothing"


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
