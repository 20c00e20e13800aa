"""SVG documents of matplotlib, written shorter."""

import re
import zlib
from collections import Counter
from itertools import pairwise


def shorter(svg: str) -> str:
    """The same drawing in under half of the bytes: no indentation, no fonts (the page has its own), no groups without
    an attribute, a style that several elements have once, and coordinates to 0.01 of a point, which no screen shows.

    Only tags change: what is text stays as it is.
    """
    parts = re.split(r"(<[^>]+>)", re.sub(r">\s+<", "><", svg))
    parts[1::2] = _with_shared_styles(_without_plain_groups([_shorter_tag(tag) for tag in parts[1::2]]))
    return "".join(parts)


def _shorter_tag(tag: str) -> str:
    tag = re.sub(r" ?font-family: [^;\"]*;?", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    tag = re.sub(r' clip-path="([^"]*)" style="([^"]*)"', r' style="\2; clip-path: \1"', tag)
    return re.sub(r' (d|x|y|points)="([^"]*)"', lambda a: f' {a[1]}="{_shorter_coordinates(a[2])}"', tag)


def _shorter_coordinates(text: str) -> str:
    text = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
    text = re.sub(r"\s*([A-Za-z])\s+", r"\1", " ".join(text.split()))
    commands = re.split(r"(?=[A-Za-z])", text)
    return "".join(_straight(before, command) for before, command in pairwise(["", *commands]))


def _straight(before: str, command: str) -> str:
    """A line to a point that is level with the one before, or above or below it, by the one number that changes."""
    if command[:1] != "L" or before[:1] not in ("M", "L"):
        return command
    (x0, y0), (x, y) = before[1:].split(), command[1:].split()
    return f"H{x}" if y == y0 else f"V{y}" if x == x0 else command


def _without_plain_groups(tags: list[str]) -> list[str]:
    kept, plain = [], []
    for tag in tags:
        if tag.startswith("<g"):
            plain.append(tag == "<g>")
        dropped = tag == "<g>" or (tag == "</g>" and plain.pop())
        kept.append("" if dropped else tag)
    return kept


def _with_shared_styles(tags: list[str]) -> list[str]:
    """A shared style is named after what it says, so that two figures of a page may both have it."""
    style = re.compile(r' style="([^"]*)"')
    times = Counter(text for tag in tags for text in style.findall(tag))
    names = {text: f"s{zlib.crc32(text.encode()):x}" for text, count in times.items() if count > 1}
    rules = "".join(f".{name}{{{text}}}" for text, name in names.items())
    tags = [style.sub(lambda a: f' class="{names[a[1]]}"' if a[1] in names else a[0], tag) for tag in tags]
    return [f"{tags[0]}<style>{rules}</style>", *tags[1:]]
