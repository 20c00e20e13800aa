"""What the numbers allow to be said, and what they do not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from whymask.data.glyphs import Glyphs
from whymask.explain.controls import ERASED
from whymask.explain.numbers import Number

Verdict = Literal["supported", "against", "open"]


@dataclass(frozen=True)
class Conclusion:
    """One of the paper's claims as these networks bear it out, in a sentence, with the reasons."""

    measure: str
    verdict: Verdict
    text: str
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Claim:
    """A claim: in which quantity the pretrained networks must lie above those from scratch.

    hides: parts of images are hidden, so that the third network must not explain the difference away.
    """

    measure: str
    quantity: str
    hides: bool
    supported: str
    against: str
    open: str


CLAIMS = (
    Claim(
        "features", "captured a class", False,
        "Pretrained networks captured more of each class's features than those from scratch.",
        "Networks from scratch captured more of each class's features than the pretrained ones.",
        "No certain difference in the features captured.",
    ),
    Claim(
        "views", "views", True,
        "Pretrained networks can recognise an image by more separate parts of it.",
        "Networks from scratch can recognise an image by more separate parts of it.",
        "Whether pretrained networks recognise an image by more separate parts is not certain.",
    ),
    Claim(
        "lottery", "agreement", False,
        "Training from scratch is more of a lottery: its networks agree less with each other than pretrained ones do.",
        "Pretrained networks agree less with each other than those from scratch.",
        "No certain difference in how far networks of different seeds agree.",
    ),
    Claim(
        "interactions", "found by", True,
        "Fine-tuned networks keep more of what the pretrained encoder combines than networks from scratch find.",
        "Networks from scratch find more of what the pretrained encoder combines than fine-tuned ones keep.",
        "Whether fine-tuning keeps more of what the pretrained encoder combines than scratch finds is not certain.",
    ),
    Claim(
        "robustness", "noise mean", True,
        "Pretrained networks are more accurate under noise.",
        "Networks from scratch are more accurate under noise.",
        "No certain difference in accuracy under noise.",
    ),
    Claim(
        "robustness", "occlusion mean", True,
        "Pretrained networks are more accurate when parts of the image are hidden.",
        "Networks from scratch are more accurate when parts of the image are hidden.",
        "Whether pretrained networks are more accurate when parts of the image are hidden is not certain.",
    ),
)  # fmt: skip


def draw(numbers: Sequence[Number], pretrained: str, baseline: str) -> list[Conclusion]:
    """A conclusion for every claim that there are numbers of."""
    drawn = [_of_claim(claim, numbers, pretrained, baseline) for claim in CLAIMS]
    return [conclusion for conclusion in [*drawn, _retention(numbers, pretrained)] if conclusion is not None]


def _of_claim(claim: Claim, numbers: Sequence[Number], pretrained: str, baseline: str) -> Conclusion | None:
    main = _differences(claim, numbers, f"{pretrained} - {baseline}")
    if not main:
        return None
    third = _differences(claim, numbers, f"{pretrained} - {ERASED}")
    sides = {_side(row) for row in main}
    reasons = [_reason(row) for row in [*main, *third]]
    if sides == {-1}:
        return Conclusion(claim.measure, "against", claim.against, reasons)
    if sides == {1} and (not claim.hides or (third and {_side(row) for row in third} == {1})):
        return Conclusion(claim.measure, "supported", claim.supported, reasons)
    return Conclusion(claim.measure, "open", claim.open, [*_doubts(claim, main, third, sides), *reasons])


def _doubts(claim: Claim, main: list[Number], third: list[Number], sides: set[int]) -> list[str]:
    if sides == {1} and not third:
        return [f"{ERASED} was not trained, so seeing images with hidden parts in training may explain the difference."]
    if sides == {1}:
        return [f"The difference to {ERASED} is not as clear: having seen images with hidden parts may explain it."]
    if len(main) > 1 and len(sides) > 1:
        return ["The two fillings do not agree."]
    return ["The interval contains 0."]


def _differences(claim: Claim, numbers: Sequence[Number], arm: str) -> list[Number]:
    """One row a filling: over seeds where there are several, else over images."""
    rows = [
        row
        for row in numbers
        if (row.measure, row.quantity, row.arm) == (claim.measure, claim.quantity, arm) and row.seed is None
    ]
    over_seeds = [row for row in rows if row.over == "seeds" and row.low is not None]
    return over_seeds or [row for row in rows if row.over == "images"]


def _side(row: Number) -> int:
    """1 above 0, -1 below, 0 where the interval does not tell."""
    if row.low is None or row.high is None:
        return 0
    return 1 if row.low > 0 else -1 if row.high < 0 else 0


def _reason(row: Number) -> str:
    under = {"mean": ", filled with the mean", "patches": ", filled with patches of other images"}
    interval = "no interval" if row.low is None else f"{row.low:+.3f} to {row.high:+.3f} over {row.count} {row.over}"
    alone = ", for these networks alone" if row.over == "images" else ""
    return f"{row.quantity}, {row.arm}: {row.value:+.3f} ({interval}{alone}){under.get(row.filling or '', '')}"


def _retention(numbers: Sequence[Number], pretrained: str) -> Conclusion | None:
    rows = [row for row in numbers if row.measure == "retention" and row.arm == pretrained and row.seed is None]
    gains = [row for row in rows if row.quantity == "read-out after - before"]
    if not gains:
        return None
    gain = next((row for row in gains if row.over == "seeds" and row.low is not None), gains[0])
    kept = next(row for row in rows if row.quantity == "kept")
    reasons = [_reason(gain), f"kept: {kept.value:.3f} of the images that could be decoded before still can be."]
    texts: dict[int, tuple[Verdict, str]] = {
        1: ("supported", "Fine-tuning kept what a linear read-out could decode, and added to it."),
        -1: ("against", "Fine-tuning lost some of what a linear read-out could decode before."),
        0: ("open", "What a linear read-out can decode did not change with any certainty in fine-tuning."),
    }
    verdict, text = texts[_side(gain)]
    return Conclusion("retention", verdict, text, reasons)


def lead(numbers: Sequence[Number], pretrained: str, baseline: str, glyphs: Glyphs | None = None) -> str:
    """The sentence that a page begins with: what both arms recognise, and what each captured."""

    def mean(
        measure: str, quantity: str, arm: str, filling: str | None = None, at: float | None = None
    ) -> float | None:
        wanted = (measure, quantity, arm, filling, at, None, None)
        found = (
            row.value
            for row in numbers
            if (row.measure, row.quantity, row.arm, row.filling, row.at, row.seed, row.item) == wanted
        )
        return next(found, None)

    arms = (pretrained, baseline)
    captured = [mean("features", "captured a class", arm) for arm in arms]
    single = [mean("features", "single-view accuracy", arm) for arm in arms]
    if glyphs is not None and None not in (*captured, *single):
        return (
            f"The pretrained networks recognise {_percent(single[0])} of single-view images, {baseline} "
            f"{_percent(single[1])}: they captured {captured[0]:.2f} of {glyphs.features} features a class, {baseline} "
            f"{captured[1]:.2f}."
        )
    accuracy = [mean("views", "accuracy", arm) for arm in arms]
    if None not in accuracy:
        told = (
            f"The pretrained networks ({pretrained}) recognise {_percent(accuracy[0])} of the test images, {baseline} "
            f"{_percent(accuracy[1])}."
        )
        left = [mean("views", "hidden", arm, "mean", 0.25) for arm in arms]
        views = [mean("views", "views", arm, "mean") for arm in arms]
        if None in (*left, *views):
            return told
        return (
            f"{told} With the quarter of the image that speaks most for their decision hidden, they still recognise "
            f"{_percent(left[0])} and {_percent(left[1])} of these; {views[0]:.1f} and {views[1]:.1f} separate parts "
            "of an image suffice for them."
        )
    agreement = [mean("lottery", "agreement", arm) for arm in arms]
    if None not in agreement:
        return (
            f"Two pretrained networks ({pretrained}) agree on {_percent(agreement[0])} of the test images, two of "
            f"{baseline} on {_percent(agreement[1])}."
        )
    return f"What the networks of {pretrained} and {baseline} captured."


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
