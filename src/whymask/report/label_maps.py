"""How label maps are shown: a colour a class, laid over the image, and what each means, once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = 0.5
"""Of a class's colour in a pixel; the rest is the image's."""


def palette(classes: int) -> np.ndarray:
    """Colours uint8 (classes, 3), all different, of up to 255: of few those of Tableau, of more those of Pascal VOC."""
    if classes <= 20:
        from matplotlib import colormaps

        pairs = np.array(colormaps["tab20"].colors)  # type: ignore[attr-defined]  # of a full and a pale colour
        return np.rint(255 * np.concatenate([pairs[::2], pairs[1::2]])[:classes]).astype(np.uint8)
    number = np.arange(classes)[:, None]
    bits = (number >> np.arange(24)) & 1  # of which every third is a channel's, the first the highest
    weights = 128 >> np.arange(8)
    return np.stack([bits[:, channel::3] @ weights for channel in range(3)], axis=1).astype(np.uint8)


def as_picture(label_map: np.ndarray, colours: np.ndarray) -> Image.Image:
    """Class numbers uint8 (H, W) as a picture of them with the colours as its palette."""
    picture = Image.fromarray(label_map, "L")
    picture.putpalette(colours.tobytes())
    return picture


def overlaid(image: np.ndarray, label_map: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """An image uint8 (H, W, C) under the colours of its label map (H, W), uint8 (H, W, 3); what is beyond the colours
    is seen as it is."""
    picture = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    known = label_map < len(colours)
    mixed = SHARE * colours[np.where(known, label_map, 0)] + (1 - SHARE) * picture
    return np.where(known[..., None], mixed.round(), picture).astype(np.uint8)


def legend(names: Sequence[str], colours: np.ndarray) -> bytes:
    """A PNG file of the classes' names beside their colours."""
    from matplotlib.patches import Patch

    from whymask.report.figures import SIZE, make, to_png

    patches = [Patch(color=colour / 255, label=name) for name, colour in zip(names, colours, strict=True)]

    def paint(figure: "Figure") -> None:
        figure.legend(handles=patches, loc="center")

    return to_png("legend", make("legend", SIZE / 72 * (1.5 * len(names) + 1), paint))
