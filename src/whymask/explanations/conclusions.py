"""What the numbers allow to be said, and what they do not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from whymask.explanations.compared import Compared
from whymask.explanations.controls import ERASED
from whymask.explanations.fill import FILLED
from whymask.explanations.measure import Expectation
from whymask.explanations.measures import MEASURES
from whymask.explanations.numbers import SEEDS, Number

Outcome = Literal["supported", "against", "open"]


@dataclass(frozen=True)
class Conclusion:
    """One of the paper's claims as these networks bear it out, in a sentence, with the reasons."""

    measure: str
    verdict: Outcome
    text: str
    reasons: list[str] = field(default_factory=list)


def lead(
    numbers: Sequence[Number], compared: Compared, drawn: Sequence[Conclusion], features: int | None = None
) -> str:
    """What a page begins with: the first of the conclusions `drawn` that is certain, else the first, then what was
    seen, the sentence of the first measure that gives one.

    features: of a class, where they are known.
    """
    first = next((conclusion for conclusion in drawn if conclusion.verdict != "open"), next(iter(drawn), None))
    seen = next(filter(None, (measure.lead(numbers, compared, features) for measure in MEASURES.values())), None)
    if first is None and seen is None:
        return f"What the networks of {' and '.join(compared.arms)} captured."
    return " ".join(filter(None, (None if first is None else first.text, seen)))


def draw(numbers: Sequence[Number], compared: Compared) -> list[Conclusion]:
    """A conclusion for every expectation that there are numbers of; those that compare the arms come first."""
    expected = [(measure.name, one) for measure in MEASURES.values() for one in measure.expectations]
    drawn = [_conclusion(*pair, numbers, compared) for pair in sorted(expected, key=lambda pair: pair[1].of_one)]
    return [conclusion for conclusion in drawn if conclusion is not None]


def _conclusion(
    measure: str, expectation: Expectation, numbers: Sequence[Number], compared: Compared
) -> Conclusion | None:
    def rows(arm: str) -> list[Number]:
        return _differences([row for row in numbers if (row.measure, row.arm) == (measure, arm)], expectation)

    main = rows(compared.pretrained if expectation.of_one else f"{compared.pretrained} - {compared.baseline}")
    if not main:
        return None
    third = rows(f"{compared.pretrained} - {ERASED}")
    outcome, doubts = _outcome(expectation, main, third)
    text = {"supported": expectation.supported, "against": expectation.against, "open": expectation.open}[outcome]
    text = text.format(ours=compared.ours, theirs=compared.theirs)
    if further := expectation.further(numbers, compared):
        text = f"{text[:-1]}; {further}."
    if outcome == "open":
        text += f" Seen, {main[0].arm}: {'; '.join(_seen(row) for row in main)}."
    return Conclusion(measure, outcome, text[0].upper() + text[1:], [*doubts, *map(_reason, [*main, *third])])


def _differences(numbers: Sequence[Number], expectation: Expectation) -> list[Number]:
    """One row a quantity and filling: over seeds if there are enough, else over images where such rows are."""
    rows = [row for row in numbers if row.seed is None and row.quantity in expectation.quantities]
    over_seeds = [row for row in rows if row.over == "seeds"]
    if over_seeds and all(row.count >= SEEDS for row in over_seeds):
        return over_seeds
    return [row for row in rows if row.over != "seeds"] or over_seeds


def _outcome(expectation: Expectation, main: list[Number], third: list[Number]) -> tuple[Outcome, list[str]]:
    """What the differences to the baseline and to the third network allow, and what stands against more."""
    whole = len(expectation.quantities) * len(expectation.fillings)
    if len(main) < whole:
        return "open", ["Not all of its numbers are there."]
    if any(row.over != "seeds" or row.count < SEEDS for row in main):
        return "open", [f"Fewer than {SEEDS} seeds: what is seen is true of these networks, and may not be of others."]
    sides = {_side(row) for row in main}
    if sides == {-1}:
        return "against", []
    if sides != {1}:
        return "open", [_disagreement(expectation, sides)]
    if not expectation.hides or (len(third) == whole and {_side(row) for row in third} == {1}):
        return "supported", []
    if len(third) < whole:
        return "open", [f"{ERASED} was not trained: having seen images with hidden parts may explain the difference."]
    return "open", [f"The difference to {ERASED} is not as clear: having seen images with hidden parts may explain it."]


def _side(row: Number) -> int:
    """1 above 0, -1 below, 0 where the interval over enough seeds does not tell."""
    if row.over != "seeds" or row.count < SEEDS or row.low is None or row.high is None:
        return 0
    return 1 if row.low > 0 else -1 if row.high < 0 else 0


def _disagreement(expectation: Expectation, sides: set[int]) -> str:
    parts = " and ".join(expectation.quantities) if len(expectation.quantities) > 1 else "the two fillings"
    if {1, -1} <= sides:
        return f"{parts[0].upper()}{parts[1:]} say opposite things."
    if len(sides) > 1:
        return f"The difference is certain for one of {parts} only."
    return "It cannot be told from 0."


def _reason(row: Number) -> str:
    alone = ", for these networks alone" if row.over != "seeds" else ""
    return f"{row.quantity}, {row.arm}: {row.value:+.3f} ({_interval(row)}{alone}){_filled(row)}"


def _seen(row: Number) -> str:
    return f"{row.quantity} {row.value:+.3f} ({_interval(row)}){_filled(row)}"


def _interval(row: Number) -> str:
    if row.low is None:
        return f"no interval, {row.count} {row.over}"
    return f"{row.low:+.3f} to {row.high:+.3f} over {row.count} {row.over}"


def _filled(row: Number) -> str:
    return next((f", {told}" for filling, told in FILLED.items() if filling == row.filling), "")
