"""The verdict of a study: one sentence, decided from its numbers alone by rules fixed before the run.

A pair is *better* when the t interval over seeds and the bootstrap interval over test images (where there is one) lie
on the good side of 0, *worse* when both lie on the bad side, and *open* otherwise. Then, the first that holds:

    too few seeds    a baseline shares fewer than 3 seeds with the arm
    helps            better than scratch and than scratch-long
    hurts            worse than scratch or than scratch-long
    no difference    otherwise, "within d": the largest absolute bound of the open pairs' intervals
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

from whymask.tasks import Metric, Task

MINIMUM_SEEDS = 3
BASELINES = {"scratch": "scratch", "scratch-long": "scratch trained with the same compute"}

Kind = Literal["helps", "hurts", "no difference", "too few seeds"]
State = Literal["few", "better", "worse", "open"]
Row = Mapping[str, Any]


class Verdict(TypedDict):
    """The verdict as study.json holds it."""

    text: str
    kind: Kind
    metric: str
    labels_per_class: float


def verdict(
    pairs: Iterable[Row],
    metric: str,
    labels_per_class: float,
    *,
    task: Task,
    arm: str,
    levels: Iterable[Row],
    equal_compute: bool = True,
) -> Verdict:
    """What the study says about `arm` in `metric` (see `Task.describe`) at one budget.

    `pairs` and `levels` are rows of study.json, of which those of other arms, metrics and budgets are passed over. A
    pair holds difference, low, high, low_images, high_images (None: no such interval), seeds and dropped (counts);
    levels supply the means that the text cites. `equal_compute=False` says that no scratch-long was planned at this
    budget: scratch alone then decides, and the text says so. Otherwise a missing pair, its cells failed, means too few
    seeds. Raises WhymaskError for an unknown metric.
    """
    here = {"metric": metric, "labels_per_class": labels_per_class}
    found = {row["baseline"]: row for row in pairs if _matches(row, here | {"arm": arm})}
    means = {row["arm"]: row["mean"] for row in levels if _matches(row, here)}
    baselines = list(BASELINES) if equal_compute else ["scratch"]
    about = task.describe(metric)
    states = {name: _state(found.get(name), about.higher_is_better) for name in baselines}

    budget = f"at {labels_per_class:g} {task.bought(labels_per_class)}"
    if "few" in states.values():
        kind: Kind = "too few seeds"
        text = f"Too few seeds to say whether pretraining helps: {budget} {_shared_seeds(arm, found, states)}."
    else:
        kind, lead = _judge(states, found, about)
        text = f"{lead}: {budget} {_numbers(arm, about, {name: found[name] for name in baselines}, means)}."
    if not equal_compute:
        text += " Equal compute was not tested: scratch was not also trained as long as pretraining took."
    return {"text": text, "kind": kind, "metric": metric, "labels_per_class": labels_per_class}


def _matches(row: Row, wanted: Row) -> bool:
    return all(row[key] == value for key, value in wanted.items())


def _intervals(pair: Row) -> list[tuple[float, float]]:
    """The intervals that a pair has: over seeds, and over test images."""
    bounds = [(pair["low"], pair["high"]), (pair["low_images"], pair["high_images"])]
    return [(low, high) for low, high in bounds if low is not None]


def _state(pair: Row | None, higher_is_better: bool) -> State:
    if pair is None or pair["seeds"] < MINIMUM_SEEDS:
        return "few"
    above = all(low > 0 for low, _ in _intervals(pair))
    below = all(high < 0 for _, high in _intervals(pair))
    if above or below:
        return "better" if above == higher_is_better else "worse"
    return "open"


def _judge(states: Mapping[str, State], pairs: Mapping[str, Row], about: Metric) -> tuple[Kind, str]:
    """The kind and the opening of the text, when every pair has enough seeds."""
    better, worse, still_open = (
        [name for name in states if states[name] == wanted] for wanted in ("better", "worse", "open")
    )
    beaten = "".join(f", though pretraining beats {BASELINES[name]}" for name in better)
    if worse:
        return "hurts", f"Pretraining hurts, {_who_wins(worse)}{beaten}"
    if not still_open:
        return "helps", "Pretraining helps"
    bound = max(abs(end) for name in still_open for interval in _intervals(pairs[name]) for end in interval)
    rivals = " or ".join(BASELINES[name] for name in still_open)
    return "no difference", f"No difference within {_at_least(bound, about)} from {rivals}{beaten}"


def _at_least(bound: float, about: Metric) -> str:
    """Rounded up, so that the claim stays true: to three decimals, or in a target's unit to two digits that count."""
    scale = 10.0 ** (1 - math.floor(math.log10(bound))) if about.unit == "target" and bound > 0 else 1000
    return f"{math.ceil(bound * scale - 1e-9) / scale:g}"


def _who_wins(worse: list[str]) -> str:
    if len(worse) == len(BASELINES):
        return "the same network from scratch does better, with the same steps and with the same compute"
    if worse == ["scratch"]:
        return "the same network from scratch does better"
    return "the same compute spent on training from scratch does better"


def _numbers(arm: str, about: Metric, pairs: Mapping[str, Row], means: Mapping[str, float]) -> str:
    """ "mae reaches 0.964 accuracy against 0.857 from scratch (+0.107, 95 % interval ...) and ..." """
    title = about.title if about.higher_is_better else f"{about.title} (lower is better)"
    number = _target_number if about.unit == "target" else _number
    rivals = [
        f"{number(means[name])} from {BASELINES[name]} ({_difference(row, number)})" for name, row in pairs.items()
    ]
    return f"{arm} reaches {number(means[arm])} {title} against {' and '.join(rivals)}"


def _difference(pair: Row, number: Callable[[float], str]) -> str:
    seeds = f"{pair['seeds']} seeds" + (f", {pair['dropped']} left out" if pair["dropped"] else "")
    difference = pair["difference"]
    signed = f"{difference:+.3f}" if number is _number else f"{'+' if difference > 0 else ''}{number(difference)}"
    text = f"{signed}, 95 % interval {number(pair['low'])} to {number(pair['high'])} over {seeds}"
    if pair["low_images"] is None:
        return text
    return f"{text}; {number(pair['low_images'])} to {number(pair['high_images'])} over test images"


def _number(value: float) -> str:
    """Three decimals, and one digit that counts where three decimals would read as 0."""
    text = f"{value:.3f}"
    return text if float(text) or not value else f"{value:.1g}"


def _target_number(value: float) -> str:
    """Three digits that count, and whole numbers whole: targets may be thousandths or thousands."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _shared_seeds(arm: str, found: Mapping[str, Row], states: Mapping[str, State]) -> str:
    counts = {name: found[name]["seeds"] if name in found else 0 for name in states if states[name] == "few"}
    shared = [f"{count} seed{'' if count == 1 else 's'} with {BASELINES[name]}" for name, count in counts.items()]
    return f"{arm} shares {' and '.join(shared)}, and {MINIMUM_SEEDS} are needed"
