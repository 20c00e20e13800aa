"""Along training: how soon a network has the interactions that it ends with.

Jiang, Cheng and Li (arXiv 2410.08455) compare interactions along the epochs of fine-tuning: a pretrained network finds
its final ones sooner than one from scratch, which never finds some of them. Networks along their training are not kept,
so each is trained again as it was recorded, with the same start, images, order and steps, and kept after `SHARES` of
its steps. Interactions are those of `whymask.explanations.measures.interactions`, on the same images and fillings.

What is there before the first step is what a network's first weights give for nothing; what another seed's network has
at its end is what any network trained like this one shares with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from whymask.encoders import Encoder
from whymask.encoders.checkpoints import load_checkpoint
from whymask.explanations.cast import Cast
from whymask.explanations.compared import Compared
from whymask.explanations.controls import can_be_trained, erased_job, new_encoder, scratch_job
from whymask.explanations.drawing import MAIN, Told, levelled, lines, select
from whymask.explanations.fill import FILLED, FILLINGS, Filling
from whymask.explanations.measure import Drawing, Expectation, Measure, numbers_of
from whymask.explanations.measures.interactions import (
    FOUND_BY,
    FOUND_BY_LOG_ODDS,
    found_scores,
    interactions_of,
    never_found_scores,
)
from whymask.explanations.networks import Member, Role, Run
from whymask.explanations.numbers import Key, Number, Scores, stated
from whymask.explanations.regions import regions
from whymask.explanations.shown import Shown
from whymask.progress import SECONDS_BETWEEN_NETWORKS, Steps
from whymask.report.figures import label_below, legend_above, make
from whymask.stages.classify import ClassifierJob, kept_in, train_classifier
from whymask.stages.context import Context
from whymask.stages.network import load_classifier
from whymask.stages.record import GIVEN, origin_of
from whymask.stages.settings import SCRATCH

NAME = "along-training"
THERE, THERE_LOG_ODDS = "there", "there, in log-odds"
MEAN, HALF_FROM = "there, mean over training", "half there from"
OTHER_SEED = "there in another seed's network"

SHARES = (0.0, 1 / 8, 1 / 4, 1 / 2)
"""Of the steps of training; after the last step all is there."""
TICKS = ("0", "1/8", "1/4", "1/2", "1")
HALF = 0.5
ROUNDING = 1e-4
"""Difference of a weight, relative to the largest of its tensor, up to which a network trained again is the same."""
ROLES: tuple[Role, ...] = ("pretrained", "baseline", "erased")
"""The networks that are trained again."""

OTHER_ARM: dict[Role, Role] = {"pretrained": "baseline", "baseline": "pretrained"}

Found = dict[Filling, np.ndarray]
"""I(S) after each of the shares and after the last step, (shares + 1, m, 2^n)."""


def take(cast: Cast, shown: Shown) -> list[Number]:
    obstacle = _obstacle(cast)
    if obstacle or cast.folder is None:
        cast.notes.append(
            f"How soon networks have their interactions was not asked: {obstacle or 'no folder was given'}."
        )
        return []
    some = shown.first(shown.settings.interaction_images)
    roles = [role for role in ROLES if role in cast.networks]
    again = {role: {seed: trained_again(cast, role, seed) for seed in cast.networks[role]} for role in roles}
    _note(cast, again)
    found: dict[Role, dict[int, Found]] = {role: {} for role in roles}
    everyone = [(role, seed) for role in roles for seed in again[role]]
    with Steps(f"measuring {NAME}", len(everyone), unit="network", between=SECONDS_BETWEEN_NETWORKS) as bar:
        for count, (role, seed) in enumerate(everyone, start=1):
            found[role][seed] = _found(cast, role, again[role][seed], some)
            bar.update(count)
    scores = {role: {seed: _scores(found, role, seed) for seed in found[role]} for role in roles}
    return numbers_of(NAME, cast, scores, some.groups)


def _obstacle(cast: Cast) -> str | None:
    if given := [arm for arm, kind in cast.kinds.items() if kind == GIVEN]:
        return f"{' and '.join(given)} cannot be trained again, for nothing says how it was trained"
    found = (_cannot(cast, run) for runs in cast.runs.values() for run in runs.values())
    return next((reason for reason in found if reason), None)


def _cannot(cast: Cast, run: Run) -> str | None:
    """Why a run cannot be trained again; None where it can."""
    if run.kind != SCRATCH and origin_of(run.folder, run.record) is None:
        return f"nothing says what {run.folder} started from, or it is not there any more"
    return can_be_trained(run, cast.context.prepared)


# training again --------------------------------------------------------------------------------------------------


def trained_again(cast: Cast, role: Role, seed: int) -> list[Path]:
    """Folders of a network as it was after each of `SHARES` and after the last step; not trained again if it is there.

    Raises what training raises, and WhymaskError where the weights that it started from do not fit any more.
    """
    assert cast.folder is not None
    network, run = cast.networks[role][seed], _run(cast, role, seed)
    out = cast.folder / f"{NAME}-{role}-{seed}"
    own = network.encoder.transform
    context = cast.context.standardised(own.mean, own.std)
    job = replace(_job(cast, context, role, run, network.encoder), kept=SHARES)
    result = train_classifier(context, job, out, f"{network.arm}-{seed}, again")
    return [*(kept_in(out, share, result["steps"]) for share in SHARES), out]


def _run(cast: Cast, role: Role, seed: int) -> Run:
    return cast.runs[cast.pretrained if role == "pretrained" else cast.baseline][seed]


def _job(cast: Cast, context: Context, role: Role, run: Run, like: Encoder) -> ClassifierJob:
    if role == "erased":
        assert cast.mask_ratio is not None
        return erased_job(context, run, like, cast.mask_ratio)
    job, origin = scratch_job(context, run, like, run.kind), origin_of(run.folder, run.record)
    if origin is None:
        return job
    partial = run.record.partial

    def build() -> Encoder:
        encoder = new_encoder(like, run.seed, context.preprocessing)
        encoder.origin = load_checkpoint(encoder, origin, partial)
        return encoder

    return replace(job, build=build, origin=str(origin), partial=partial)


def _note(cast: Cast, again: Mapping[Role, Mapping[int, Sequence[Path]]]) -> None:
    """Says which networks, trained again, are not the recorded ones, and of which arms training is too short."""
    for role, seeds in again.items():
        arm = cast.arm(role)
        for seed, folders in seeds.items():
            off = difference(_member(cast, role, folders[-1]), cast.networks[role][seed])
            if off > ROUNDING:
                cast.notes.append(
                    f"{arm} of seed {seed}, trained again, is not the recorded network: weights differ by up to "
                    f"{off:.2g} of their tensor's largest. How soon it has its interactions is told of the one trained "
                    "again. Another machine, device, number of threads or version rounds otherwise."
                )
        if any(len(set(folders)) < len(folders) for folders in seeds.values()):
            cast.notes.append(
                f"{arm} was trained for fewer than {round(1 / SHARES[1])} steps: its shares of training are rounded up "
                "to whole ones."
            )


def difference(network: Member, recorded: Member) -> float:
    """The largest difference of a weight between two networks, relative to the largest of its tensor."""
    own, theirs = (
        [tensor.cpu().double() for tensor in each.classifier.state_dict().values()] for each in (network, recorded)
    )
    pairs = zip(own, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


def _member(cast: Cast, role: Role, folder: Path) -> Member:
    classifier = load_classifier(folder)[0].to(cast.fabric.device)
    return cast.asked(Member(role, cast.arm(role), 0, classifier, cast.preprocessing))


# how much is there -----------------------------------------------------------------------------------------------


def _found(cast: Cast, role: Role, folders: Sequence[Path], shown: Shown) -> Found:
    where = regions(cast.preprocessing.size, shown.settings.regions)
    networks = [_member(cast, role, folder) for folder in folders]
    return {
        name: np.stack([interactions_of(network, shown, filler, where) for network in networks])
        for name, filler in shown.fillers.items()
    }


def _scores(found: Mapping[Role, Mapping[int, Found]], role: Role, seed: int) -> Scores:
    """Of one network, beside those of other seeds and those of the other arm."""
    scores: Scores = {}
    other_arm = OTHER_ARM.get(role)
    for name, own in found[role][seed].items():
        scores |= along_scores(own, [other[name][-1] for place, other in found[role].items() if place != seed], name)
        if other_arm is not None:
            theirs = [each for other in found[other_arm].values() for each in other[name]]
            scores |= never_found_scores(own[-1], own[-1], theirs, name)
    return scores


def along_scores(found: np.ndarray, others: Sequence[np.ndarray], filling: Filling) -> Scores:
    """Of the final interactions, each of (m,): "there" `at` every share, of interactions divided by their sum and "in
    log-odds"; its "mean over training"; from which share on "half" of them is "there"; and what is "there in another
    seed's network", the mean over `others`, where there are some.

    Args:
        found: from a network along its training, (shares + 1, m, 2^n), the last one final.
        others: final ones of networks of other seeds.
    """
    final = found[-1]
    shares = [found_scores(final, each, filling) for each in found]
    scores: Scores = {}
    for name, quantity in ((THERE, FOUND_BY), (THERE_LOG_ODDS, FOUND_BY_LOG_ODDS)):
        scores |= {Key(name, filling, at): own[Key(quantity, filling)] for at, own in zip(SHARES, shares, strict=False)}
    there = np.stack([own[Key(FOUND_BY, filling)] for own in shares])
    scores |= {Key(MEAN, filling): mean_over_training(there), Key(HALF_FROM, filling): half_from(there)}
    if others:
        of_others = [found_scores(final, other, filling)[Key(FOUND_BY, filling)] for other in others]
        scores[Key(OTHER_SEED, filling)] = np.mean(of_others, axis=0)
    return scores


def mean_over_training(there: np.ndarray) -> np.ndarray:
    """By the trapezoidal rule, (m,), from what is there after each share and after the last step, (shares + 1, m)."""
    return np.diff([*SHARES, 1.0]) @ (there[1:] + there[:-1]) / 2


def half_from(there: np.ndarray) -> np.ndarray:
    """The first share, (m,), from which on at least half is there, from (shares + 1, m); NaN where there is nothing."""
    stays = np.logical_and.accumulate(there[::-1] >= HALF)[::-1]
    return np.where(np.isnan(there[-1]), np.nan, np.array([*SHARES, 1.0])[stays.argmax(axis=0)])


# what is told ----------------------------------------------------------------------------------------------------


def curves(told: Told, name: str) -> dict[str, Figure]:
    """What is there along training, a panel a filling."""
    main = {arm["name"] for arm in told["arms"] if arm["role"] in MAIN}

    def of(quantity: str, filling: Filling) -> list[dict[str, object]]:
        rows = [row for row in select(told, NAME, quantity) if row["filling"] == filling]
        ends = {row["arm"]: row | {"at": 1.0, "value": 1.0, "low": 1.0, "high": 1.0} for row in rows}
        return [*rows, *ends.values()]

    def panel(filling: Filling) -> Figure:
        def paint(figure: Figure) -> None:
            axes = figure.subplots()
            lines(axes, told, of(THERE, filling), {})
            lines(axes, told, [row for row in of(THERE_LOG_ODDS, filling) if row["arm"] in main], {}, dotted=True)
            label_below(figure, f"share of training,\n{FILLED[filling]}")
            axes.set_xticks((*SHARES, 1.0), TICKS)
            axes.set_ylabel("final interactions there\n(dotted: in log-odds)")
            legend_above(axes)

        return make(name, 3.7, paint)

    return levelled({FILLED[filling]: panel(filling) for filling in FILLINGS if of(THERE, filling)})


def _when(numbers: Sequence[Number], compared: Compared) -> str | None:
    ours, theirs = (stated(numbers, NAME, HALF_FROM, arm, FILLINGS[0]) for arm in compared.arms)
    if ours is None or theirs is None:
        return None
    return (
        f"half of them is there from {ours} of training on in {compared.pretrained}, from {theirs} in "
        f"{compared.baseline}, {FILLED[FILLINGS[0]]}"
    )


ALONG_TRAINING = Measure(
    name=NAME,
    title="Interactions along training",
    about="How soon a network has the interactions that it ends with. Each is trained again as it was recorded, "
    f"and kept after {', '.join(TICKS[:-1])} of its steps. There: how far it is then made of the same interactions as "
    "the same network after its last step, each divided by their sum; in log-odds: not divided. Half there from: the "
    "first of these shares of training from which on it is half or more, so smaller is sooner. After the last step all "
    "is there by construction; at 0 stands what first weights and a new head give for nothing. There in another seed's "
    "network: what networks that were trained alike share at their ends. Never found: the share of its final "
    "interactions that no network of the other arm has at any of these shares, nor at its end.",
    take=take,
    expectations=(
        Expectation(
            quantities=(MEAN,),
            fillings=FILLINGS,
            hides=True,
            supported="{ours} reach their final interactions sooner than {theirs}.",
            against="{theirs} reach their final interactions sooner than {ours}.",
            open="Whether {ours} reach their final interactions sooner than {theirs} is open.",
            further=_when,
        ),
    ),
    figures={NAME: Drawing("What is there of a network's final interactions along its training", curves)},
)
