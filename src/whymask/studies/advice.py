"""What now: use the network or not, the command that does it, and what to try next, by rules over study.json alone.

Of `USE` the first rule that holds is said; of `TRY` every one that holds. What might help is said as something to try:
no study has shown that it does. docs/advice.md lists the rules.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from whymask.data.prepare import FEW_UNLABELLED, MEASURED
from whymask.data.splits import LARGEST_SHARE
from whymask.report.text import count, known
from whymask.studies.facts import Facts, Row, said_once
from whymask.studies.settling import MINIMUM_SEEDS, MOST_SEEDS
from whymask.tasks import Task


@dataclass(frozen=True)
class Rule:
    """Where it holds (`when`, in words for the docs), what it says, and the command; in braces what `Facts` fills in.

    The command is left out where it needs the study's own and there is none.
    """

    name: str
    when: str
    holds: Callable[[Facts], bool]
    text: str
    command: str | None = None


USE: tuple[Rule, ...] = (
    Rule(
        "unfinished",
        "there is no verdict yet",
        lambda f: not f.kind,
        "Let the study finish: the same command goes on where it stopped.",
        "{same}",
    ),
    Rule(
        "not above chance",
        "no network was shown to be above chance",
        lambda f: f.above_chance is False,
        "Use none of these networks: none was shown to be better than who looks at no image.",
    ),
    Rule(
        "given weights",
        "a start from given weights is better than scratch and scratch-long, and in its mean than the verdict's arm",
        lambda f: bool(f.best_given),
        "Use the network of {best_given}, which started from given weights: it did better than training from scratch, "
        "and its mean is better than that of {method}.",
        "whymask predict {folder} IMAGES{cell}",
    ),
    Rule(
        "pretrained",
        "helps",
        lambda f: f.kind == "helps",
        "Use the pretrained network.",
        "whymask predict {folder} IMAGES{cell}",
    ),
    Rule(
        "scratch",
        "hurts",
        lambda f: f.kind == "hurts",
        "Do not use the pretrained network: the one from scratch did better.",
        "whymask predict {folder} IMAGES{cell}",
    ),
    Rule(
        "longer",
        "not worth its compute",
        lambda f: f.kind == "not worth its compute",
        "Do not pretrain: train from scratch for longer, which did better at the same compute.",
        "whymask predict {folder} IMAGES{cell}",
    ),
    Rule(
        "no need",
        "no difference that matters",
        lambda f: f.kind == "no difference that matters",
        "There is no need to pretrain: the network from scratch does as well, within the margin.",
        "whymask predict {folder} IMAGES{cell}",
    ),
    Rule(
        "undecided",
        "cannot tell",
        lambda f: True,
        "Do not choose by this study: whether to pretrain is open.",
    ),
)

TRY: tuple[Rule, ...] = (
    Rule(
        "other programs",
        "helps",
        lambda f: f.kind == "helps",
        "For other programs, export it.",
        "whymask export {folder} --to {target}{cell}",
    ),
    Rule(
        "three seeds",
        f"cannot tell, of fewer than {MINIMUM_SEEDS} seeds",
        lambda f: f.kind == "cannot tell" and 0 < f.seeds < MINIMUM_SEEDS,
        f"Run {MINIMUM_SEEDS} seeds or more: with fewer nothing is concluded.",
        f"{{again}} --seeds {MINIMUM_SEEDS} --out {{folder}}-{MINIMUM_SEEDS}-seeds",
    ),
    Rule(
        "more seeds",
        f"cannot tell, and so many seeds, up to {MOST_SEEDS}, would settle it at the spread seen",
        lambda f: f.more_seeds > 0,
        "Run {more_seeds} seeds: so many{beside_seeds} would do if difference and spread over seeds stay as they are.",
        "{again} --seeds {more_seeds} --out {folder}-{more_seeds}-seeds",
    ),
    Rule(
        "larger test share",
        f"cannot tell, more test images would settle it, and less than {LARGEST_SHARE} of the labelled ones was drawn",
        lambda f: f.asks_for_images and known(f.test_share),
        "Test on more of the labelled images, or label more; what would settle it is said above.",
        "{again} --test-share {test_share} --out {folder}-test-{test_share}",
    ),
    Rule(
        "more test images",
        "cannot tell, more test images would settle it, and no larger share can be drawn",
        lambda f: f.asks_for_images and not known(f.test_share),
        "Label more test images; how many would settle it is said above.",
    ),
    Rule(
        "nothing learnt",
        "no network was shown to be above chance",
        lambda f: f.above_chance is False,
        "Try more labels, more epochs of fine-tuning (--finetune.epochs) or another encoder (whymask list).",
    ),
    Rule(
        "public weights",
        f"fewer than {count(FEW_UNLABELLED)} images to pretrain on, and no start from given weights",
        lambda f: f.few_unlabelled and not f.given_arms,
        "Only {pool} images to pretrain on: below some thousand own pretraining is not expected to win: "
        f"{MEASURED}. Try public weights beside it, fine-tuned and frozen, or add unlabelled images.",
        "{again} --starts {method} init={public} frozen={public} --out {folder}-starts",
    ),
    Rule(
        "longer pretraining",
        f"any verdict but helps, from {count(FEW_UNLABELLED)} images to pretrain on, and some network above chance",
        lambda f: bool(f.kind) and f.kind != "helps" and not f.few_unlabelled and f.above_chance is not False,
        "Try to pretrain longer than {for_epochs}, or another method or encoder (whymask list): this verdict is of "
        "{method} on {encoder} alone.",
        "{again_for_longer} --pretrain.epochs {twice} --out {folder}-{twice}-epochs",
    ),
    Rule(
        "more labels",
        f"the arm to use, or scratch, is better with most labels than with fewest: in {MINIMUM_SEEDS} seeds or more, "
        "the whole interval of the difference beyond the margin",
        lambda f: f.rises,
        "Label more images: from {fewest} to {most} {chosen} became better by {rise}, which is more than the margin, "
        "and may go on.",
    ),
)


def advice(study: Row, task: Task, folder: str) -> list[Row]:
    """[{"rule", "text", "command" or None}], what to use first.

    `study`: the content of study.json, of today's schema, some of its sections perhaps empty; `folder`: the study's.
    Nothing is said of a verdict of another version, on a metric that is known no more.
    """
    facts = Facts(study, task, folder)
    if facts.kind and not facts.is_understood:
        return []
    first = next(rule for rule in USE if rule.holds(facts))
    further = [] if first.name == "unfinished" else [rule for rule in TRY if rule.holds(facts)]
    return [_filled(rule, facts) for rule in (first, *further)]


def advice_text(given: Iterable[Row]) -> str:
    """As a study's last lines say it."""
    lines = [line for row in given for line in (row["text"], f"    {row['command']}" if row["command"] else "") if line]
    return "\n".join(["What now:", *lines])


def _filled(rule: Rule, facts: Facts) -> Row:
    cited = _Cited(facts)
    command = rule.command.format_map(cited) if rule.command else ""
    is_whole = command.startswith("whymask ")
    return {
        "rule": rule.name,
        "text": rule.text.format_map(cited),
        "command": said_once(command) if is_whole else None,
    }


class _Cited(dict[str, Any]):
    """The facts by name, as `str.format_map` asks for them."""

    def __init__(self, facts: Facts):
        super().__init__()
        self._facts = facts

    def __missing__(self, name: str) -> Any:
        return getattr(self._facts, name)
