"""How soon networks have the interactions that they end with: trained again with the same bits, kept along the way."""

import shutil
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import GLYPHS, small_explanation
from whymask import Explanation
from whymask.data.glyph_settings import glyphs_of
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.encoders import load_encoder
from whymask.explanations import conclusions
from whymask.explanations.cast import Cast
from whymask.explanations.choice import choose_images
from whymask.explanations.compared import Compared
from whymask.explanations.fill import FILLINGS
from whymask.explanations.measures import along_training
from whymask.explanations.measures.along_training import (
    HALF_FROM,
    MEAN,
    NAME,
    OTHER_SEED,
    SHARES,
    THERE,
    THERE_LOG_ODDS,
    along_scores,
    half_from,
    mean_over_training,
    take,
)
from whymask.explanations.measures.interactions import NEVER_FOUND, log_odds
from whymask.explanations.networks import open_runs, two_arms
from whymask.explanations.numbers import Key, Number
from whymask.explanations.regions import regions
from whymask.explanations.settings import USUAL
from whymask.explanations.shown import Shown
from whymask.stages.classify import kept_in
from whymask.stages.context import Context
from whymask.stages.network import load_classifier
from whymask.stages.record import GIVEN
from whymask.training.device import make_fabric

SETTINGS = small_explanation()
STEPS = 4
"""Of the tiny study's networks."""


@pytest.fixture
def asked(
    finished: Path, explained: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Cast, Shown]:
    """The networks of the tiny study, with those that its explanation trained; more cannot be trained."""
    arms = two_arms(open_runs([finished]))
    seen = load_encoder(arms[0][0].folder).transform
    prepared = prepare(GLYPHS, DataSettings(), preprocessing=seen)
    cast = Cast.of(Context(make_fabric(SETTINGS.runtime), prepared), arms)
    monkeypatch.setattr("whymask.stages.classify.fit", None)
    cast.add_controls(Path(shutil.copytree(explained.folder / "controls", tmp_path / "controls")), train=True)
    glyphs = glyphs_of(GLYPHS)
    return cast, Shown.to(cast, choose_images(cast.prepared, glyphs, SETTINGS), glyphs, SETTINGS)


def folder_of(cast: Cast, role: str, seed: int) -> Path:
    assert cast.folder is not None
    return cast.folder / f"{NAME}-{role}-{seed}"


# training again --------------------------------------------------------------------------------------------------


def test_it_comes_where_it_is_named() -> None:
    assert NAME not in USUAL and "known-views" not in USUAL and "adversarial" in USUAL


def test_trained_again_each_network_has_the_same_bits_and_began_where_it_did(asked: tuple[Cast, Shown]) -> None:
    cast, _ = asked
    for role in ("pretrained", "baseline", "erased"):
        for seed, network in cast.networks[role].items():  # type: ignore[index]
            again = load_classifier(folder_of(cast, role, seed))[0].state_dict()
            recorded = network.classifier.state_dict()
            assert again.keys() == recorded.keys() and all(torch.equal(again[key], recorded[key]) for key in again)
    for seed, run in cast.runs["mae"].items():
        first = load_encoder(kept_in(folder_of(cast, "pretrained", seed), 0, STEPS)).net.state_dict()
        assert run.origin is not None
        pretrained = load_encoder(run.origin).net.state_dict()
        assert all(torch.equal(first[key], pretrained[key]) for key in pretrained)


def test_a_second_call_trains_nothing_and_gives_the_same_numbers(
    asked: tuple[Cast, Shown], explained: Explanation
) -> None:
    cast, shown = asked
    assert take(cast, shown) == explained.select(measure=NAME)
    (short,) = {note.split(":")[0] for note in cast.notes if "steps" in note and note.startswith("mae")}
    assert short == "mae was trained for fewer than 8 steps"
    assert not any("is not the recorded network" in note for note in cast.notes)


def test_a_network_that_is_not_the_recorded_one_is_said(asked: tuple[Cast, Shown]) -> None:
    cast, shown = asked
    with torch.no_grad():
        cast.networks["baseline"][1].classifier.head.weight.mul_(1.01)
    take(cast, shown)
    (said,) = [note for note in cast.notes if "is not the recorded network" in note]
    assert said.startswith("scratch of seed 1, trained again,") and "up to 0.0099 of" in said


def refused(cast: Cast, shown: Shown) -> str:
    assert take(cast, shown) == []
    return cast.notes[-1]


def test_what_cannot_be_trained_again_is_refused(asked: tuple[Cast, Shown]) -> None:
    cast, shown = asked
    runs = {arm: dict(own) for arm, own in cast.runs.items()}

    def changed(of: str, **changes: Any) -> str:
        record = replace(runs[of][1].record, **changes)
        cast.runs = runs | {of: runs[of] | {1: replace(runs[of][1], record=record)}}
        return refused(cast, shown)

    assert f"{runs['mae'][1].folder} was trained on" in changed("mae", data="others")
    assert "nothing says what" in changed("mae", origin="../gone")
    assert "nothing says what" in changed("scratch", arm="scratch-long")
    cast.runs = runs | {"scratch": runs["scratch"] | {0: replace(runs["scratch"][0], training={})}}
    assert "did not record its recipe" in refused(cast, shown)
    cast.runs, cast.kinds = runs, {"mae": "mae", "scratch": GIVEN}
    assert "not asked: scratch cannot be trained again, for nothing says how it was" in refused(cast, shown)


# the numbers -----------------------------------------------------------------------------------------------------


def by_definition(network: Any, images: torch.Tensor, labels: torch.Tensor, filler: torch.Tensor) -> np.ndarray:
    """I(S) of every non-empty set of regions, (m, 2^n - 1), one at a time."""
    where = torch.from_numpy(regions(images.shape[2:], SETTINGS.regions))
    every = [*chain.from_iterable(combinations(range(SETTINGS.regions), size) for size in range(SETTINGS.regions + 1))]
    with torch.inference_mode():
        v = {
            s: log_odds(network(torch.where(torch.isin(where, torch.tensor(s)), images, filler)), labels) for s in every
        }
    sums = [sum((-1) ** (len(s) - len(t)) * v[t] for t in every if {*t} <= {*s}) for s in every if s]
    return torch.stack([torch.as_tensor(each) for each in sums], dim=1).numpy()


def test_numbers_are_those_of_a_direct_computation(asked: tuple[Cast, Shown], explained: Explanation) -> None:
    cast, shown = asked
    some = shown.first(SETTINGS.interaction_images)
    steps = [0, 1, 1, 2]  # the shares of 4 steps, rounded up

    def found(role: str, seed: int, filling: str) -> list[np.ndarray]:
        folder = folder_of(cast, role, seed)
        places = [folder / "kept" / f"after-{step}" for step in steps] + [folder]
        filler = some.fillers[filling]  # type: ignore[index]
        return [by_definition(load_classifier(place)[0], some.images, some.labels, filler) for place in places]

    def shared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where(one * other > 0, np.minimum(abs(one), abs(other)), 0)

    def told(quantity: str, arm: str, filling: str, at: float | None = None) -> float:
        rows = explained.select(measure=NAME, quantity=quantity, arm=arm, seed=0, filling=filling, at=at)
        (row,) = [row for row in rows if row.at == at]
        assert row.count == len(some.images)
        return row.value

    for filling in FILLINGS:
        arms = {"mae": "pretrained", "scratch": "baseline"}
        of = {arm: found(role, 0, filling) for arm, role in arms.items()}
        relative = {arm: [each / abs(each).sum(1, keepdims=True) for each in own] for arm, own in of.items()}
        for arm in arms:
            there = [shared(relative[arm][-1], each).sum(1) for each in relative[arm]]
            for share, own, raw in zip(SHARES, there, of[arm], strict=False):
                assert told(THERE, arm, filling, share) == pytest.approx(own.mean(), abs=1e-4)
                in_log_odds = shared(of[arm][-1], raw).sum(1) / abs(of[arm][-1]).sum(1)
                assert told(THERE_LOG_ODDS, arm, filling, share) == pytest.approx(in_log_odds.mean(), abs=1e-4)
            weights = [1 / 16, 1 / 8, 3 / 16, 3 / 8, 1 / 4]
            assert told(MEAN, arm, filling) == pytest.approx(np.dot(weights, np.mean(there, axis=1)), abs=1e-4)
        second = found("pretrained", 1, filling)[-1]
        other = shared(relative["mae"][-1], second / abs(second).sum(1, keepdims=True)).sum(1)
        assert told(OTHER_SEED, "mae", filling) == pytest.approx(other.mean(), abs=1e-4)
        theirs = relative["scratch"] + [x / abs(x).sum(1, keepdims=True) for x in found("baseline", 1, filling)]
        best = np.max([shared(relative["mae"][-1], each) for each in theirs], axis=0)
        assert told(NEVER_FOUND, "mae", filling) == pytest.approx(1 - best.sum(1).mean(), abs=1e-4)


def test_half_is_there_from_where_it_stays() -> None:
    there = np.array([
        [0.1, 0.2, 0.3, 0.4, 1],
        [0.6, 0.4, 0.5, 0.5, 1],
        [0.5, 0.5, 0.5, 0.5, 1],
        [0.9, 0.9, 0.9, 0.49, 1],
        [np.nan] * 5,
    ])  # fmt: skip
    assert half_from(there.T).tolist()[:4] == [1, 1 / 4, 0, 1] and np.isnan(half_from(there.T)[4])
    flat = np.array([[0.5] * 5, [0.0, 0.0, 0.0, 0.0, 1.0]]).T
    assert mean_over_training(flat).tolist() == [0.5, 1 / 4]


def test_a_network_that_does_not_move_has_all_from_the_start_and_one_that_says_nothing_counts_nowhere() -> None:
    final = np.random.default_rng(0).normal(size=(3, 8))
    final[2, 1:] = 0
    scores = along_scores(np.stack([final] * 5), [], "mean")
    assert all(np.array_equal(scores[Key(THERE, "mean", share)], [1, 1, np.nan], equal_nan=True) for share in SHARES)
    assert np.array_equal(scores[Key(HALF_FROM, "mean")], [0, 0, np.nan], equal_nan=True)
    assert Key(OTHER_SEED, "mean") not in scores
    louder = along_scores(np.stack([final / 4, final / 2, final, 2 * final, final]), [2 * final, -final], "mean")
    assert louder[Key(THERE, "mean", 0.0)][:2].tolist() == [1, 1]  # loudness is no interaction
    assert louder[Key(THERE_LOG_ODDS, "mean", 0.0)][:2] == pytest.approx([1 / 4, 1 / 4])
    assert louder[Key(OTHER_SEED, "mean")][:2] == pytest.approx([0.5, 0.5])


def test_a_conclusion_needs_both_fillings_and_the_third_network() -> None:
    def rows(other: str, *of_fillings: tuple[float, float]) -> list[Number]:
        return [
            Number(NAME, MEAN, f"mae - {other}", sum(b) / 2, *b, 5, "seeds", filling=filling)
            for filling, b in zip(FILLINGS, of_fillings, strict=True)
        ]

    def concluded(numbers: list[Number]) -> tuple[str, str]:
        halves = [Number(NAME, HALF_FROM, arm, v, 0, 1, 5, "seeds", filling="mean") for arm, v in HALVES.items()]
        (found,) = conclusions.draw(numbers + halves, Compared("mae", "scratch", ("mae", "scratch")))
        return found.verdict, found.text

    HALVES = {"mae": 0.125, "scratch": 0.5}
    sooner, unclear, later = (0.1, 0.2), (-0.1, 0.2), (-0.2, -0.1)
    third = rows("scratch-erased", sooner, sooner)
    verdict, text = concluded(rows("scratch", sooner, sooner) + third)
    assert verdict == "supported" and text.startswith("Pretrained networks reach their final interactions sooner than")
    assert "half of them is there from 0.125 (0.000 to 1.000 over 5 seeds) of training on in mae, from 0.500 (" in text
    assert concluded(rows("scratch", sooner, sooner))[0] == "open"
    assert concluded(rows("scratch", sooner, unclear) + third)[0] == "open"
    assert concluded(rows("scratch", later, later))[0] == "against"


def test_the_figure_ends_where_all_is_there(explained: Explanation) -> None:
    figures = along_training.curves(explained.to_dict(), NAME)
    assert len(figures) == len(FILLINGS)
    for figure in figures.values():
        ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in figure.axes[0].lines]  # type: ignore[index]
        assert len(ends) == 3 + 2 and set(ends) == {(1.0, 1.0)}  # three arms, and two of them in log-odds
