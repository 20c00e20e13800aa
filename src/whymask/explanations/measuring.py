"""All measures, taken one after the other of the networks of a cast, and what is told of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from whymask.data.glyph_settings import Glyphs
from whymask.explanations import conclusions
from whymask.explanations.batching import BATCH
from whymask.explanations.cast import Cast
from whymask.explanations.evidence import Means
from whymask.explanations.explanation import Explanation
from whymask.explanations.measures import MEASURES
from whymask.explanations.numbers import Number
from whymask.explanations.pictures import evidence_pictures
from whymask.explanations.settings import ExplainSettings
from whymask.explanations.shown import Shown
from whymask.progress import say
from whymask.runs import RunFolder, command


def explanation_of(
    cast: Cast, rows: np.ndarray, glyphs: Glyphs | None, settings: ExplainSettings, folder: RunFolder
) -> Explanation:
    """What the measures say of the networks, on the images `rows` of their data."""
    if glyphs is not None:
        cast.notes.append(
            "Measures on whole images use the multi-view test images, which show all features; the lottery uses "
            "the single-view ones, which show what each network lacks."
        )
    shown = Shown.to(cast, rows, glyphs, settings)
    _note_occlusion(cast, shown.means)
    numbers: list[Number] = []
    for position, name in enumerate(settings.measures, start=1):
        say(f"[{position}/{len(settings.measures)}] measuring {name} of {len(cast.members)} networks")
        numbers += MEASURES[name].take(cast, shown)
    about = cast.question.about
    asked = "" if about is None else f"Does an image show {about}? "
    drawn = conclusions.draw(numbers, cast.compared)
    return Explanation(
        folder=folder.path,
        lead=asked + conclusions.lead(numbers, cast.compared, drawn, glyphs.features if glyphs else None),
        setting=_setting(cast, shown),
        provenance=folder.provenance,
        arms=cast.about(shown.means),
        numbers=numbers,
        conclusions=drawn,
        warnings=cast.warnings,
        notes=cast.notes,
        pictures=evidence_pictures(cast, shown.images, shown.labels, shown.cells, shown.means),
    )


def _note_occlusion(cast: Cast, means_of: Mapping[str, Means]) -> None:
    pointless = [arm for arm, means in means_of.items() if means == "occlusion"]
    if pointless:
        cast.notes.append(
            f"Grad-CAM finds no map to point at in {', '.join(pointless)}; evidence is what hiding a cell changes "
            "(occlusion), and not the gradient."
        )


def _setting(cast: Cast, shown: Shown) -> dict[str, Any]:
    settings, images = shown.settings, len(shown.images)
    return {
        "data": cast.prepared.name,
        "classes": list(cast.prepared.classes),
        **({} if cast.question.about is None else {"label": cast.question.about}),
        "images": images,
        "view_images": min(settings.view_images, images),
        "interaction_images": min(settings.interaction_images, images),
        "adversarial_images": min(settings.adversarial_images, images),
        "size": list(cast.preprocessing.size),
        "cells": list(shown.cells),
        "regions": settings.regions,
        "batch": None if cast.fabric.device.type == "cuda" else BATCH,  # there, what fits
        "measures": list(settings.measures),
        "seeds": sorted(cast.networks["pretrained"]),
        "pretrained": cast.pretrained,
        "baseline": cast.baseline,
        "features": None if shown.glyphs is None else shown.glyphs.features,
        "command": command(),
    }
