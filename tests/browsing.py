"""Pages as a browser shows them: what they ask for and say, and whether they can be read on a phone and on a desk."""

from pathlib import Path
from typing import Any

import pytest

PHONE, DESK = 390, 1280
SMALLEST = 11
"""CSS pixels that text has at least, as shown."""
_LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_RULES = {"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": _LEVELS}}
_COLOURS = {"resultTypes": ["violations"], "runOnly": ["color-contrast", "link-in-text-block"]}
"""What another colour scheme can change."""
_OPEN = """() => {
  document.querySelectorAll("details").forEach((details) => (details.open = true));
  document.querySelectorAll("table.sortable tbody tr:nth-child(n + 9)").forEach((row) => row.remove());
}"""
"""Rows of a table are alike: of hundreds, the first are enough."""
_SMALL = """(smallest) => {
  const shown = (element) => {
    const size = parseFloat(getComputedStyle(element).fontSize);
    const drawn = element.closest("svg") && element.getScreenCTM();
    return drawn ? size * Math.sqrt(Math.abs(drawn.a * drawn.d - drawn.b * drawn.c)) : size;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), small = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    if (!text || element.closest("script, style") || !element.checkVisibility()) continue;
    if (shown(element) < smallest) small.push(`${shown(element).toFixed(1)} px: ${text}`);
  }
  return small;
}"""
_CUT = """() => [...document.querySelectorAll("svg text")].filter((text) => {
  const [inner, outer] = [text, text.closest("svg")].map((element) => element.getBoundingClientRect());
  return inner.width && (inner.left < outer.left - 3 || inner.right > outer.right + 3);
}).map((text) => text.textContent)"""


class Visit:
    """A page as opened from disk, or from an address, with everything that it asked for, said and popped up."""

    def __init__(self, browser: Any, path: Path | str, **options: Any) -> None:
        self.requests: list[str] = []
        self.said: list[str] = []
        self.page = browser.new_page(**options)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.goto(path if isinstance(path, str) else path.as_uri())

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *exception: object) -> None:
        self.page.close()

    @property
    def outside(self) -> list[str]:
        """Requests for anything but the page and what is in it."""
        return [url for url in self.requests if not url.startswith(("file://", "data:"))] + [
            url for url in self.requests if url.startswith("file://") and not url.endswith(".html")
        ]


def faults_of(browser: Any, path: Path | str) -> list[str]:
    """What is wrong with a page's looks, everything unfolded, at both widths, light and dark; nothing if all is well.

    Text that is smaller than `SMALLEST` or runs out of its figure, a page wider than the screen, a bar of sections that
    scrolls away, words in the console, and what axe-core finds against WCAG 2.2 AA, contrast of 4.5:1 among it.
    """
    faults = []
    with Visit(browser, path, color_scheme="light") as visit:
        visit.page.evaluate(_OPEN)
        for width in (PHONE, DESK):
            visit.page.set_viewport_size({"width": width, "height": 844})
            faults += [f"{width}: {fault}" for fault in _ill_laid(visit.page, width)]
            for scheme, rules in (("light", _RULES), ("dark", _COLOURS)):
                visit.page.emulate_media(color_scheme=scheme)
                faults += [f"{width} {scheme}: {violation}" for violation in violations_of(visit.page, rules)]
        faults += [f"console: {text}" for text in visit.said]
    return faults


def violations_of(page: Any, rules: dict[str, Any] = _RULES) -> list[str]:
    """What axe-core finds on a page as it is shown."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    found = []
    for violation in axe.run(page, options=rules).response["violations"]:
        first = violation["nodes"][0]
        told = f"{violation['id']}, {len(violation['nodes'])} times: {first['target']}"
        found.append(f"{told}: {first['failureSummary']}")
    return found


def small_texts(page: Any) -> list[str]:
    """Text that is smaller than `SMALLEST`."""
    return [f"small: {text}" for text in page.evaluate(_SMALL, SMALLEST)]


def _ill_laid(page: Any, width: int) -> list[str]:
    faults = small_texts(page)
    faults += [f"out of its figure: {text}" for text in page.evaluate(_CUT)]
    if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
        faults.append(f"the page is {wide} wide")
    page.evaluate("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    if page.locator("nav").bounding_box()["y"] != 0:
        faults.append("the bar of sections scrolls away")
    return faults
