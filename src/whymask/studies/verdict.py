"""The verdict of a study: one sentence, decided from its numbers alone by rules fixed before the run.

A pair has a t interval over seeds and, where the metric allows, a bootstrap interval over test images. It is *better*
when all of them lie on the good side of 0, *worse* when all lie on the bad side, *alike* when all lie within the margin
(an equivalence test), *few* with fewer than 3 common seeds, and *open* otherwise. Then, the first that holds:

    cannot tell                     a pair is few
    helps                           better than scratch and than scratch-long
    hurts                           worse than scratch
    not worth its compute           worse than scratch-long
    cannot tell                     a pair is open, or no network is above chance
    no difference that matters      otherwise: a pair is alike
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

from whymask.report.text import plural
from whymask.studies.settling import MINIMUM_SEEDS, settling
from whymask.tasks import Metric, Task

BASELINES = {"scratch": "scratch", "scratch-long": "scratch trained with the same compute"}
CHANCE = "chance"
"""The baseline of a pair whose other side looks at no image (see `Task.guess`)."""

UNTESTED = "Equal compute was not tested: scratch was not also trained as long as pretraining took."

Kind = Literal["helps", "hurts", "not worth its compute", "no difference that matters", "cannot tell"]
State = Literal["few", "better", "worse", "alike", "open"]
Row = Mapping[str, Any]

LEADS: dict[Kind, str] = {
    "helps": "Pretraining helps",
    "hurts": "Pretraining hurts",
    "not worth its compute": "Pretraining is not worth its compute",
    "no difference that matters": "No difference that matters",
    "cannot tell": "Cannot tell whether pretraining helps",
}


class Verdict(TypedDict):
    """The verdict as study.json holds it.

    `margin`: in the metric's unit. `above_chance`: whether any network is; None where that was not tested. `settle`:
    what would settle it; None where it is settled.
    """

    text: str
    kind: Kind
    metric: str
    labels_per_class: float
    margin: float
    above_chance: bool | None
    settle: str | None


def margin_of(about: Metric, share: float, chance: float | None) -> float:
    """The smallest difference that matters: `share` of the metric's range.

    The range of a metric without two bounds is what lies between the best value and that of who looks at no image; NaN,
    within which nothing lies, where that is not known.
    """
    if about.low is not None and about.high is not None:
        return share * (about.high - about.low)
    return math.nan if chance is None or about.best is None else share * abs(about.best - chance)


def verdict(
    pairs: Iterable[Row],
    metric: str,
    labels_per_class: float,
    *,
    task: Task,
    arm: str,
    levels: Iterable[Row],
    margin: float,
    test_images: int | None = None,
    equal_compute: bool = True,
) -> Verdict:
    """What the study says about `arm` in `metric` (see `Task.describe`) at one budget.

    `pairs` and `levels` are rows of study.json, of which those of other arms, metrics and budgets are passed over. A
    pair holds difference, low, high, low_images, high_images (None: no such interval), seeds and dropped (counts);
    levels supply the means that the text cites. Pairs whose baseline is `CHANCE`, of any arm, say what is above chance.
    `margin`: in the metric's unit, see `margin_of`. `test_images`: how many, or groups of them, the intervals rest on.
    `equal_compute=False` says that no scratch-long was planned at this budget: scratch alone then decides, and the
    text says so. Otherwise a missing pair, its cells failed, means too few seeds. Raises WhymaskError for an unknown
    metric.
    """
    about, here = task.describe(metric), {"metric": metric, "labels_per_class": labels_per_class}
    there = [row for row in pairs if _matches(row, here)]
    found = {row["baseline"]: row for row in there if row["arm"] == arm}
    means = {row["arm"]: row["mean"] for row in levels if _matches(row, here)}
    states = {name: state_of(found.get(name), about, margin) for name in (BASELINES if equal_compute else ("scratch",))}
    above = _above_chance([row for row in there if row["baseline"] == CHANCE], about)
    kind = _kind(states, above)

    budget = f"at {labels_per_class:g} {task.bought(labels_per_class)}"
    lead = LEADS[kind] + _remark(kind, states, {name: found.get(name) for name in states}, about, margin)
    if "few" in states.values():
        text = f"{lead}: {budget} {_shared_seeds(arm, found, states)}."
    else:
        text = f"{lead}: {budget} {_numbers(arm, about, {name: found[name] for name in states}, means)}."
    if above is False:
        text = f"No network was shown to be above chance, what one scores who looks at no image. {text}"
    if not equal_compute:
        text += f" {UNTESTED}"
    settle = None if kind != "cannot tell" else _settle(states, found, margin, test_images)
    return {
        "text": text,
        "kind": kind,
        "metric": metric,
        "labels_per_class": labels_per_class,
        "margin": margin,
        "above_chance": above,
        "settle": settle,
    }


def state_of(pair: Row | None, about: Metric, margin: float = math.nan) -> State:
    """What a pair says, by the rules at the head of this file."""
    if pair is None or pair["seeds"] < MINIMUM_SEEDS:
        return "few"
    above = all(low > 0 for low, _ in _intervals(pair))
    below = all(high < 0 for _, high in _intervals(pair))
    if above or below:
        return "better" if above == about.higher_is_better else "worse"
    return "alike" if _within(pair, margin) else "open"


def _kind(states: Mapping[str, State], above_chance: bool | None) -> Kind:
    if "few" in states.values():
        return "cannot tell"
    if set(states.values()) == {"better"}:
        return "helps"
    if states["scratch"] == "worse":
        return "hurts"
    if states.get("scratch-long") == "worse":
        return "not worth its compute"
    if "open" in states.values() or above_chance is False:
        return "cannot tell"
    return "no difference that matters"


def _matches(row: Row, wanted: Row) -> bool:
    return all(row[key] == value for key, value in wanted.items())


def _intervals(pair: Row) -> list[tuple[float, float]]:
    """The intervals that a pair has: over seeds, and over test images."""
    bounds = [(pair["low"], pair["high"]), (pair["low_images"], pair["high_images"])]
    return [(low, high) for low, high in bounds if low is not None]


def _within(pair: Row, margin: float) -> bool:
    return all(abs(end) <= margin for interval in _intervals(pair) for end in interval)


def _above_chance(pairs: list[Row], about: Metric) -> bool | None:
    """Whether any arm's pair with chance is better; None without a pair that could say so."""
    states = [state_of(pair, about) for pair in pairs]
    return any(state == "better" for state in states) if any(state != "few" for state in states) else None


def in_short(text: str) -> str:
    """A verdict's sentence without the levels and intervals that tiles show beside it."""
    lead, numbers, _ = text.partition(": at ")
    if not numbers:
        return text
    return f"{lead}. {UNTESTED}" if text.endswith(UNTESTED) else f"{lead}."


def settled_by(given: Row) -> str:
    """What follows the verdict's text, on a line of its own: what would settle it."""
    return f"\nWhat would settle it: {given['settle']}" if given.get("settle") else ""


# the sentence


def _remark(
    kind: Kind, states: Mapping[str, State], pairs: Mapping[str, Row | None], about: Metric, margin: float
) -> str:
    """What follows the lead: against which baseline, and by how little."""
    better, alike, still_open = (
        [name for name in states if states[name] == wanted] for wanted in ("better", "alike", "open")
    )
    though = "".join(f", though pretraining beats {BASELINES[name]}" for name in better)
    said = number_of(about)(margin)
    if kind in ("helps", "hurts"):
        decided = [pair for name, pair in pairs.items() if pair and (states[name] == "better") == (kind == "helps")]
        small = any(_within(pair, margin) for pair in decided)
        little = f", by less than the {said} that were to matter" if small else ""
        return little if kind == "helps" else f", the same network from scratch does better{_long_too(states)}{little}"
    if kind == "not worth its compute":
        scratch = "beats scratch, but" if better else "does not beat scratch, and"
        return f": it {scratch} the same compute spent on training from scratch does better"
    if "few" in states.values():
        return ", for too few seeds"
    if kind == "cannot tell" and not still_open:
        return ""
    rivals = " or ".join(BASELINES[name] for name in (still_open or alike))
    if kind == "cannot tell":
        bound = max(abs(end) for name in still_open for interval in _intervals(pairs[name] or {}) for end in interval)
        return f": a difference of up to {_at_least(bound, about)} from {rivals} is possible{though}"
    return f": within {said} of {rivals}{though}"


def _long_too(states: Mapping[str, State]) -> str:
    return {
        "worse": ", with the same steps and with the same compute",
        "better": f", though pretraining beats {BASELINES['scratch-long']}",
    }.get(states.get("scratch-long", "open"), "")


def _settle(
    states: Mapping[str, State], found: Mapping[str, Row], margin: float, test_images: int | None
) -> str | None:
    if "few" in states.values():
        return f"{MINIMUM_SEEDS} or more seeds that all arms finish."
    unsettled = [found[name] for name in states if states[name] == "open"]
    if not unsettled:
        return "Networks that learn something: more labels, more epochs, or another encoder."
    return settling(unsettled, margin, test_images)


def _at_least(bound: float, about: Metric) -> str:
    """Rounded up, so that the claim stays true: to three decimals, or in a target's unit to two digits that count."""
    scale = 10.0 ** (1 - math.floor(math.log10(bound))) if about.unit == "target" and bound > 0 else 1000
    return f"{math.ceil(bound * scale - 1e-9) / scale:g}"


def _numbers(arm: str, about: Metric, pairs: Mapping[str, Row], means: Mapping[str, float]) -> str:
    """ "mae reaches 0.964 accuracy against 0.857 from scratch (+0.107, 95 % interval ...) and ..." """
    title = about.title if about.higher_is_better else f"{about.title} (lower is better)"
    number = number_of(about)
    rivals = [
        f"{number(means[name])} from {BASELINES[name]} ({difference_text(row, about)})" for name, row in pairs.items()
    ]
    return f"{arm} reaches {number(means[arm])} {title} against {' and '.join(rivals)}"


def difference_text(pair: Row, about: Metric) -> str:
    """ "+0.107, 95 % interval 0.080 to 0.134 over 5 seeds; 0.090 to 0.121 over test images"; without images where the
    pair has no such interval."""
    number, difference = number_of(about), pair["difference"]
    seeds = plural(pair["seeds"], "seed") + (f", {pair['dropped']} left out" if pair.get("dropped") else "")
    signed = f"{difference:+.3f}" if number is _number else f"{'+' if difference > 0 else ''}{number(difference)}"
    text = f"{signed}, 95 % interval {number(pair['low'])} to {number(pair['high'])} over {seeds}"
    if pair.get("low_images") is None:
        return text
    return f"{text}; {number(pair['low_images'])} to {number(pair['high_images'])} over test images"


def number_of(about: Metric) -> Callable[[float], str]:
    """How a number of this metric is written for people."""
    return about.shown if about.unit == "target" else _number


def _number(value: float) -> str:
    """Three decimals, and one digit that counts where three decimals would read as 0."""
    text = f"{value:.3f}"
    return text if float(text) or not value else f"{value:.1g}"


def _shared_seeds(arm: str, found: Mapping[str, Row], states: Mapping[str, State]) -> str:
    counts = {name: found[name]["seeds"] if name in found else 0 for name in states if states[name] == "few"}
    shared = [f"{plural(count, 'seed')} with {BASELINES[name]}" for name, count in counts.items()]
    return f"{arm} shares {' and '.join(shared)}, and {MINIMUM_SEEDS} are needed"
