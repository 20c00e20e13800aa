"""A folder of photos, an encoder that has seen them for a moment, and their map."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import whymask
from tiny import runtime
from whymask import MapSettings


def drawn_photos(folder: Path, each: int = 14) -> Path:
    """Two classes of pictures of 32 x 24 pixels, cold and warm, one of the cold ones among the warm, and one twice."""
    random = np.random.default_rng(0)
    for name, channel in (("<b>cold", 2), ("warm", 0)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.kron(random.integers(0, 110, (6, 8, 3)), np.ones((4, 4, 1)))
            pixels[..., channel] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    (folder / "<b>cold" / "0.png").rename(folder / "warm" / "stray, of cold.png")
    Image.open(folder / "warm" / "1.png").save(folder / "warm" / "twice.jpg", quality=70)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Photos, an encoder of a moment, its map and what was told."""
    root = tmp_path_factory.mktemp("map")
    photos = drawn_photos(root / "photos")
    whymask.pretrain(photos, out=root / "run", epochs=1, encoder={"width": 8}, runtime=runtime(), size=32)
    settings = MapSettings(layout="pca", runtime=runtime())
    told = whymask.map_images(root / "run", photos, out=root / "map.html", settings=settings)
    return {"root": root, "photos": photos, "told": told, "page": (root / "map.html").read_text()}
