"""The picture of README: of the page that this version makes of the glyph study, the verdict and the curves.

    python -m experiments.picture

Needs Chromium and Playwright, as the tests of pages do.
"""

import io
import shutil
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from whymask.disk import write_bytes
from whymask.studies.page.write import write_study_page

DOCS = Path(__file__).resolve().parents[1] / "docs"
STUDY, IMAGES = DOCS / "results" / "glyphs" / "study.json", DOCS / "images"
RUN = Path("runs/demo")
"""Where `make demo` puts it: the page names the folder."""
WIDTH, HEIGHT = 880, 2000
SHARPNESS = 1.3
"""Pixels of the picture for one of CSS."""
COLOURS = 48
ALONE = """() => {
  const others = "header, nav, section:not(#verdict, #curves), details, footer, #curves .figures ~ *";
  document.querySelectorAll(others).forEach((one) => one.remove());
  document.querySelector("main").style = "display: flow-root; padding: 0 8px";
  document.querySelectorAll("section").forEach((card) => (card.style.margin = "8px 0"));
}"""
"""What is shown of the page."""


def main() -> None:
    """Write docs/images/verdict-light.png and verdict-dark.png."""
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, chdir(folder), sync_playwright() as tools:
        RUN.mkdir(parents=True)
        shutil.copy(STUDY, RUN)
        address = write_study_page(RUN).resolve().as_uri()
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, device_scale_factor=SHARPNESS)
            page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
            page.goto(address)
            page.evaluate(ALONE)
            write_bytes(IMAGES / f"verdict-{scheme}.png", with_few_colours(page.locator("main").screenshot()))
        browser.close()


def with_few_colours(png: bytes) -> bytes:
    """The same picture in half of the bytes: its most frequent colours, and in place of others the nearest of these."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
    colours, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_counts=True)
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours[counts.argsort()[::-1][:COLOURS]].flatten().tolist())
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
