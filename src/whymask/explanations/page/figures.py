"""Figures of an explanation: those of its measures, and the evidence in example images."""

import re
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from whymask.explanations.drawing import Told, arm_names, shortened
from whymask.explanations.measure import Measure
from whymask.explanations.measures import MEASURES
from whymask.report.figures import NEUTRAL, make

Arrays = dict[str, np.ndarray]
"""The content of pictures.npz."""
EVIDENCE = "Evidence for the image's class; recognised whole → with the strongest quarter hidden"
HEAT = np.array([232, 76, 20])


def figures_of(told: Told, arrays: Arrays) -> dict[str, tuple[Figure, str]]:
    """Every figure that there are numbers or pictures for: name -> (figure, what it shows)."""
    seen = evidence(told, arrays)
    drawn = {"why-evidence": (seen, EVIDENCE)} if seen else {}
    for measure in MEASURES.values():
        for name, drawing in measure.figures.items():
            for panel, figure in drawing.draw(told, f"why-{name}").items():
                end, caption = (f"-{re.sub('[^a-z0-9]+', '-', panel.lower())}", f": {panel}") if panel else ("", "")
                drawn[f"why-{name}{end}"] = figure, drawing.caption + caption
    return drawn


def names_of(measure: Measure, drawn: Iterable[str]) -> list[str]:
    """Which of the figures that were drawn are this measure's: why-NAME, or why-NAME-PANEL of several panels."""
    own = tuple(f"why-{name}" for name in measure.figures)
    return [name for name in drawn if name in own or name.startswith(tuple(f"{one}-" for one in own))]


def shown_arms(told: Told, arrays: Arrays) -> list[str]:
    """The arms that there are pictures of."""
    return [arm for arm in arm_names(told) if f"evidence/{arm}" in arrays]


def evidence(told: Told, arrays: Arrays) -> Figure | None:
    """Images x arms: evidence of each arm's first network, and whether it says the class, whole and without it."""
    arms = shown_arms(told, arrays)
    if not arms:
        return None
    images, labels = arrays["images"], arrays["labels"]

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(images), len(arms) + 1, squeeze=False)
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            grid[row, 0].imshow(rgb(image))
            for column, arm in enumerate(arms, start=1):
                axes = grid[row, column]
                axes.imshow(overlay(image, arrays[f"evidence/{arm}"][row]))
                said, left = (arrays[f"{what}/{arm}"][row] == label for what in ("whole", "left"))
                axes.set_xlabel(f"{'✓' if said else '✗'} → {'✓' if left else '✗'}", fontsize=9)
        for axes, name in zip(grid[0], ["image", *arms], strict=True):
            axes.set_title(shortened(name, 16), fontsize=9, color=NEUTRAL)
        for axes in grid.flat:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set_visible(False)

    return make("why-evidence", 1.35 * len(images) + 0.3, paint, width=1.15 * (len(arms) + 1))


def overlay(image: np.ndarray, evidence: np.ndarray, side: int = 96) -> np.ndarray:
    """An image uint8 (h, w, C) under its evidence (gh, gw) in 0..1, in red: uint8 (H, W, 3), about `side` pixels."""
    times = max(1, round(side / max(image.shape[:2])))
    colour = rgb(image).repeat(times, axis=0).repeat(times, axis=1).astype(np.float64)
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(colour.shape[:2], evidence.shape, strict=True))
    weight = 0.75 * evidence[rows][:, columns][..., None]
    grey = colour.mean(axis=2, keepdims=True)
    return np.rint(grey * (1 - weight) + HEAT * weight).astype(np.uint8)


def rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, C) as (h, w, 3): grey repeated; of many channels, the first three."""
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
