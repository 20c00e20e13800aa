"""Which composites are made (`whymask.data.composites` makes them), and how a user writes that."""

import math
import re
from dataclasses import dataclass, fields
from typing import Any

from whymask.errors import WhymaskError

WHOLE = "both"
"""Tag of the test images that show every part; of the others the part that they show."""


@dataclass(frozen=True)
class Composites:
    """Images of several parts, one above the other, each a picture from a source of its own.

    Class c of every source makes class c of the composites, so any part tells the class.
    """

    parts: tuple[tuple[str, str], ...]  # (name, source), from the top
    classes: int | None = None  # None: as many as the source with the fewest has
    unlabelled: int = 5_000  # images
    train: int = 1_000  # labelled images, the classes in turn
    test: int = 1_500  # in equal shares: with every part, and with each part alone
    single: float = 0.0  # share of the unlabelled and train images that show one part alone
    side: int = 32  # pixels of a part
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise WhymaskError(f"composites: {len(self.parts)} part(s); expected at least two, as A=PHOTOS,B=OTHER")
        if self.classes is not None and self.classes < 2:
            raise WhymaskError(f"composites: classes={self.classes}; expected at least 2")
        if self.side < 4:
            raise WhymaskError(f"composites: side={self.side}; expected at least 4 pixels")
        for name in ("unlabelled", "train", "test"):
            if not 0 <= getattr(self, name) < math.inf:
                raise WhymaskError(f"composites: {name}={getattr(self, name)}; expected 0 or more")
        if not 0 <= self.single <= 1:
            raise WhymaskError(f"composites: single={self.single}; expected a share from 0 to 1")


def is_composites(data: Any) -> bool:
    """Whether a user's data ask for composites."""
    return isinstance(data, str) and data.startswith("composites:")


def parse_composites(text: str) -> Composites:
    """ "composites:A=photos,B=fashion,train=500" as `Composites`; WhymaskError for anything else.

    A name with a capital is a part, and what it is made of any source that whymask opens; all others are numbers.
    """
    types = {f.name: float if f.name == "single" else int for f in fields(Composites) if f.name != "parts"}
    expected = f"composites:A=PHOTOS,B=OTHER with names in capitals, and perhaps {', '.join(types)} (as train=500)"
    parts: dict[str, str] = {}
    numbers: dict[str, Any] = {}
    for item in filter(None, text.partition(":")[2].split(",")):
        name, equals, value = (word.strip() for word in item.partition("="))
        if equals and value and re.fullmatch(r"[A-Z]\w*", name):
            if name in parts:
                raise WhymaskError(f"{item!r} in {text!r}: the part {name} is there twice; each once was expected")
            parts[name] = value
        elif equals and name in types:
            try:
                numbers[name] = types[name](value)
            except ValueError:
                kind = "a share" if types[name] is float else "a whole number"
                raise WhymaskError(f"{item!r} in {text!r}; expected {kind}, such as {name}=1") from None
        else:
            raise WhymaskError(f"{item!r} in {text!r}; expected {expected}")
    return Composites(tuple(parts.items()), **numbers)
