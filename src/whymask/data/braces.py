"""Lists of numbered files, as they are written: train-{000000..000009}.tar, and what is missing of one."""

import re
from collections.abc import Iterable, Sequence
from itertools import product, takewhile

from whymask.errors import WhymaskError

MOST = 1_000_000
"""Names that one pattern may stand for."""
SHOWN = 5
ARCHIVES, PARQUET = (".tar", ".tar.gz", ".tgz"), ".parquet"
"""How the names of shards end."""


def braced(text: str) -> list[str]:
    """What a pattern with {000..009} or {a,b} stands for, in order; the text alone where it has no such braces.

    Raises WhymaskError for a range that ends before it begins, and for more than a million names.
    """
    parts = re.split(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}", text)
    choices = [[part] if place % 2 == 0 else _choices(text, part) for place, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST:
        raise WhymaskError(f"{text} stands for {count:,} names; at most {MOST:,} were expected; check the braces")
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(text: str, part: str) -> list[str]:
    found = []
    for word in part.split(","):
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", word)
        if numbers is None:
            found.append(word)
            continue
        first, last = numbers.groups()
        if int(last) < int(first):
            raise WhymaskError(
                f"{text}: the range {word} ends before it begins; the first number and then the last were expected, as "
                "in {000000..000009}"
            )
        found += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return found


def refuse_missing(given: str, names: Sequence[str], missing: Sequence[str]) -> None:
    """Raise WhymaskError where some of the files that `given` stands for are not there."""
    if missing:
        raise WhymaskError(
            f"{given}: {len(missing):,} of its {len(names):,} files are not there: {_shown(missing)}; all were "
            "expected; bring them, or name those that there are, as in {000000..000002,000004..000009}"
        )


def refuse_holes(given: str, names: Sequence[str]) -> None:
    """Raise WhymaskError where numbered files, such as train-000002.tar, leave out numbers: one did not arrive.

    Numbers are looked at that begin with zeros and have one length; those of train-00002-of-00010.tar are ten.
    """
    series: dict[tuple[str, str, int], set[int]] = {}
    for name in names:
        if found := re.fullmatch(r"(.*?)(\d+)((?:-of-\d+)?(?:\.[A-Za-z]\w*)+)", name, re.DOTALL):
            head, number, tail = found.groups()
            series.setdefault((head, tail, len(number)), set()).add(int(number))
    missing = [
        f"{head}{number:0{width}d}{tail}"
        for (head, tail, width), there in series.items()
        for number in _expected(there, tail, width)
        if number not in there
    ]
    if missing:
        raise WhymaskError(
            f"{given}: the numbers of its files leave out {_shown(missing)}; all of a series were expected; bring "
            "what is missing, or name those that there are, as in train-{000000..000002,000004..000009}.tar"
        )


def _expected(there: set[int], tail: str, width: int) -> Iterable[int]:
    of = re.match(r"-of-(\d+)", tail)
    if of is not None:
        return range(int(of[1])) if 0 in there else range(1, int(of[1]) + 1)
    is_padded = len(there) > 1 and len(str(min(there))) < width
    return range(min(there), max(there) + 1) if is_padded else there


def parted(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all paths lie in, and what follows it."""
    folders = [path.split("/")[:-1] for path in {min(paths), max(paths)}]
    shared = list(takewhile(lambda names: len({*names}) == 1, zip(*folders, strict=False)))
    around = "".join(f"{names[0]}/" for names in shared)
    return around, [path.removeprefix(around) for path in paths]


def _shown(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
