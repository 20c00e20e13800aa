"""What tests read off a made page, and pages that are made fast."""

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CONFIDENCE = r"(?:95|99\.9) % (?:interval|over)|[Ii]ntervals? of 95 %|\(99\.9 %\)"
"""How sure an interval is: the only percentages of a page."""


def words_of(page: str) -> str:
    """The text of a page, with that of its figures; without style, script, settings and attributes."""
    body = re.sub(r"<(style|script|pre)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", body).split()))


def shares_in_percent(page: str) -> list[str]:
    """What a page says in percent, but for the confidence of intervals, with the words around it."""
    told = re.sub(CONFIDENCE, " ", words_of(page))
    return [told[max(0, m.start() - 40) : m.end() + 20] for m in re.finditer(r"\d ?%|\bpercent\b", told)]


def facts_of(page: str) -> dict[str, str]:
    """The facts of a study's data: what stands under each name."""
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def table_of(page: str, label: str) -> list[list[str]]:
    """The cells of a table's rows, as words."""
    table = page[page.index(f'aria-label="{label}"') :]
    body = table[table.index("<tbody>") : table.index("</table>")]
    return [[words_of(cell) for cell in re.split(r"<t[dh]\b", row)[1:]] for row in body.split("<tr")[1:]]


@contextmanager
def undrawn() -> Iterator[None]:
    """Figures are painted and not rendered, which takes as long as a tiny study: for tests that look at none."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, file, **asked: file.write(b"<svg></svg>"))
        yield
