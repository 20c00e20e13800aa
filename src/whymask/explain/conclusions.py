"""What the numbers allow to be said, and what they do not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from whymask.explain.controls import ERASED
from whymask.explain.fill import FILLINGS
from whymask.explain.numbers import Number
from whymask.stages.alone import SCRATCH

Verdict = Literal["supported", "against", "open"]
SEEDS = 3
"""Networks an arm from which on something is concluded of other trainings."""


@dataclass(frozen=True)
class Compared:
    """The two arms as numbers name them, and what they are: "scratch", or the method of their pretraining."""

    pretrained: str
    baseline: str
    kinds: tuple[str, str]

    @property
    def _plain(self) -> bool:
        return self.kinds[0] != SCRATCH and self.kinds[1] == SCRATCH

    @property
    def ours(self) -> str:
        return "pretrained networks" if self._plain else f"networks of {self.pretrained}"

    @property
    def theirs(self) -> str:
        return "networks from scratch" if self._plain else f"networks of {self.baseline}"


@dataclass(frozen=True)
class Conclusion:
    """One of the paper's claims as these networks bear it out, in a sentence, with the reasons."""

    measure: str
    verdict: Verdict
    text: str
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Claim:
    """A claim: in which quantities the pretrained networks must lie above those from scratch.

    fillings: under which the numbers are. All quantities and fillings must say the same.
    hides: parts of images are hidden, or disturbed, so that the third network must not explain the difference away.
    """

    measure: str
    quantities: tuple[str, ...]
    fillings: tuple[str | None, ...]
    hides: bool
    supported: str
    against: str
    open: str


CLAIMS = (
    Claim(
        "features", ("captured a class",), (None,), False,
        "{ours} captured more of each class's features than {theirs}.",
        "{theirs} captured more of each class's features than {ours}.",
        "No certain difference in the features captured.",
    ),
    Claim(
        "views", ("views",), FILLINGS, True,
        "{ours} can recognise an image by more separate parts of it than {theirs}.",
        "{theirs} can recognise an image by more separate parts of it than {ours}.",
        "Whether {ours} recognise an image by more separate parts than {theirs} is not certain.",
    ),
    Claim(
        "lottery", ("error consistency", "evidence overlap"), (None,), False,
        "{theirs} are more of a lottery than {ours}: from seed to seed they err, and look, less alike.",
        "{ours} are more of a lottery than {theirs}: from seed to seed they err, and look, less alike.",
        "Whether {theirs} are more of a lottery than {ours}, and err and look less alike, is not certain.",
    ),
    Claim(
        "interactions", ("found by",), FILLINGS, True,
        "Fine-tuned networks are made of the pretrained encoder's interactions more than {theirs}.",
        "{theirs} are made of the pretrained encoder's interactions more than fine-tuned ones.",
        "Whether fine-tuned networks are made of the pretrained encoder's interactions more than {theirs} is open.",
    ),
    Claim(
        "robustness", ("noise mean",), (None,), True,
        "{ours} are more accurate under noise than {theirs}.",
        "{theirs} are more accurate under noise than {ours}.",
        "No certain difference in accuracy under noise.",
    ),
    Claim(
        "robustness", ("occlusion mean",), FILLINGS, True,
        "{ours} are more accurate than {theirs} when parts of the image are hidden.",
        "{theirs} are more accurate than {ours} when parts of the image are hidden.",
        "Whether {ours} are more accurate than {theirs} when parts of the image are hidden is not certain.",
    ),
)  # fmt: skip


def draw(numbers: Sequence[Number], compared: Compared) -> list[Conclusion]:
    """A conclusion for every claim that there are numbers of."""
    drawn = [_of_claim(claim, numbers, compared) for claim in CLAIMS]
    return [conclusion for conclusion in [*drawn, _retention(numbers, compared)] if conclusion is not None]


def _of_claim(claim: Claim, numbers: Sequence[Number], compared: Compared) -> Conclusion | None:
    main = _differences(claim, numbers, f"{compared.pretrained} - {compared.baseline}")
    if not main:
        return None
    third = _differences(claim, numbers, f"{compared.pretrained} - {ERASED}")
    verdict, doubts = _verdict(claim, main, third)
    text = {"supported": claim.supported, "against": claim.against, "open": claim.open}[verdict]
    text = text.format(ours=compared.ours, theirs=compared.theirs)
    reasons = [_reason(row) for row in [*main, *third]]
    return Conclusion(claim.measure, verdict, text[0].upper() + text[1:], [*doubts, *reasons])


def _verdict(claim: Claim, main: list[Number], third: list[Number]) -> tuple[Verdict, list[str]]:
    """What the differences to the baseline and to the third network allow, and what stands against more."""
    whole = len(claim.quantities) * len(claim.fillings)
    if len(main) < whole:
        return "open", ["Not all of its numbers are there."]
    if any(row.over != "seeds" or row.count < SEEDS for row in main):
        return "open", [f"Fewer than {SEEDS} seeds: what is seen is true of these networks, and may not be of others."]
    sides = {_side(row) for row in main}
    if sides == {-1}:
        return "against", []
    if sides != {1}:
        return "open", [_disagreement(claim, sides)]
    if not claim.hides or (len(third) == whole and {_side(row) for row in third} == {1}):
        return "supported", []
    if len(third) < whole:
        return "open", [f"{ERASED} was not trained: having seen images with hidden parts may explain the difference."]
    return "open", [f"The difference to {ERASED} is not as clear: having seen images with hidden parts may explain it."]


def _disagreement(claim: Claim, sides: set[int]) -> str:
    parts = " and ".join(claim.quantities) if len(claim.quantities) > 1 else "the two fillings"
    if {1, -1} <= sides:
        return f"{parts[0].upper()}{parts[1:]} say opposite things."
    if len(sides) > 1:
        return f"The difference is certain for one of {parts} only."
    return "It cannot be told from 0."


def _differences(claim: Claim, numbers: Sequence[Number], arm: str) -> list[Number]:
    """One row a quantity and filling: over seeds if there are enough, else over images where such rows are."""
    rows = [
        row
        for row in numbers
        if (row.measure, row.arm, row.seed) == (claim.measure, arm, None) and row.quantity in claim.quantities
    ]
    over_seeds = [row for row in rows if row.over == "seeds"]
    if over_seeds and all(row.count >= SEEDS for row in over_seeds):
        return over_seeds
    return [row for row in rows if row.over != "seeds"] or over_seeds


def _side(row: Number) -> int:
    """1 above 0, -1 below, 0 where the interval over enough seeds does not tell."""
    if row.over != "seeds" or row.count < SEEDS or row.low is None or row.high is None:
        return 0
    return 1 if row.low > 0 else -1 if row.high < 0 else 0


def _reason(row: Number) -> str:
    under = {"mean": ", filled with the mean", "patches": ", filled with patches of other images"}
    interval = "no interval" if row.low is None else f"{row.low:+.3f} to {row.high:+.3f} over {row.count} {row.over}"
    alone = ", for these networks alone" if row.over != "seeds" else ""
    return f"{row.quantity}, {row.arm}: {row.value:+.3f} ({interval}{alone}){under.get(row.filling or '', '')}"


def _retention(numbers: Sequence[Number], compared: Compared) -> Conclusion | None:
    claim = Claim(
        "retention", ("read-out after - before",), (None,), False,
        "A linear read-out decodes more after fine-tuning than before.",
        "A linear read-out decodes less after fine-tuning than before.",
        "Whether a linear read-out decodes more or less after fine-tuning is not certain.",
    )  # fmt: skip
    gain = _differences(claim, numbers, compared.pretrained)
    if not gain:
        return None
    verdict, doubts = _verdict(claim, gain, [])
    text = {"supported": claim.supported, "against": claim.against, "open": claim.open}[verdict]
    kept = _mean(numbers, "retention", "kept", compared.pretrained)
    if kept is not None:
        text = f"{text[:-1]}; of what it decoded before, {_percent(kept)} is kept."
    return Conclusion("retention", verdict, text, [*doubts, *map(_reason, gain)])


def lead(numbers: Sequence[Number], compared: Compared, features: int | None = None) -> str:
    """The sentence that a page begins with: what both arms recognise, and what each captured.

    features: of a class, where they are known.
    """
    arms, ours, theirs = (compared.pretrained, compared.baseline), f"The {compared.ours}", compared.baseline
    captured = [_mean(numbers, "features", "captured a class", arm) for arm in arms]
    single = [_mean(numbers, "features", "single-view accuracy", arm) for arm in arms]
    if features is not None and None not in (*captured, *single):
        return (
            f"{ours} recognise {_percent(single[0])} of single-view images, {theirs} {_percent(single[1])}: they "
            f"captured {captured[0]:.2f} of {features} features a class, {theirs} {captured[1]:.2f}."
        )
    accuracy = [_mean(numbers, "views", "accuracy", arm) for arm in arms]
    if None not in accuracy:
        told = f"{ours} recognise {_percent(accuracy[0])} of the test images, {theirs} {_percent(accuracy[1])}."
        quarter = _nearest_share(numbers, 0.25)
        left = [_mean(numbers, "views", "hidden", arm, "mean", quarter) for arm in arms]
        views = [_mean(numbers, "views", "views", arm, "mean") for arm in arms]
        if None in (*left, *views):
            return told
        return (
            f"{told} With the {_percent(quarter)} of the image that speak most for their decision hidden, they still "
            f"recognise {_percent(left[0])} and {_percent(left[1])} of these; {views[0]:.1f} and {views[1]:.1f} "
            "separate parts of an image suffice for them."
        )
    agreement = [_mean(numbers, "lottery", "agreement", arm) for arm in arms]
    if None not in agreement:
        return (
            f"Two {compared.ours} agree on {_percent(agreement[0])} of the test images, two {compared.theirs} on "
            f"{_percent(agreement[1])}."
        )
    return f"What the networks of {arms[0]} and {arms[1]} captured."


def _mean(
    numbers: Sequence[Number],
    measure: str,
    quantity: str,
    arm: str,
    filling: str | None = None,
    at: float | None = None,
) -> float | None:
    """The mean over an arm's networks; None where it was not measured."""
    wanted = (measure, quantity, arm, filling, at, None, None)
    found = (
        row.value
        for row in numbers
        if (row.measure, row.quantity, row.arm, row.filling, row.at, row.seed, row.item) == wanted
    )
    return next(found, None)


def _nearest_share(numbers: Sequence[Number], share: float) -> float | None:
    hidden = {row.at for row in numbers if (row.measure, row.quantity) == ("views", "hidden") and row.at is not None}
    return min(hidden, key=lambda at: abs(at - share), default=None)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
