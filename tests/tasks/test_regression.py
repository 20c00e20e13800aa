import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from whymask.errors import WhymaskError
from whymask.tasks import LossConfig, RawLabels, Regression

MAE = "mean_absolute_error"
TASK = Regression(("age", "weight"))


def made_up(images: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (N, 2) float32 of a middling network, and ages and weights."""
    generator = np.random.default_rng(seed)
    labels = generator.normal(size=(images, 2)) * [20, 3] + [50, 1000]
    if ties:
        labels = labels.round(-1)
    return (labels + generator.normal(size=(images, 2)) * [10, 2]).astype(np.float32), labels


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6), st.booleans())
def test_equal_to_scikit_learn_and_scipy(images, seed, ties):
    values, labels = made_up(images, seed, ties)
    expected = {
        MAE: mean_absolute_error(labels, values),
        "rmse": np.mean(root_mean_squared_error(labels, values, multioutput="raw_values")),
        f"{MAE}/age": mean_absolute_error(labels[:, 0], values[:, 0]),
        f"{MAE}/weight": mean_absolute_error(labels[:, 1], values[:, 1]),
    }
    if (np.ptp(labels, axis=0) > 0).all():
        expected["r2"] = r2_score(labels, values)
        expected["spearman"] = np.mean([spearmanr(labels[:, t], values[:, t]).statistic for t in range(2)])
    assert TASK.metrics(values, labels) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert TASK.per_name(values, labels) == pytest.approx([expected[f"{MAE}/age"], expected[f"{MAE}/weight"]])


def test_one_target_is_not_named_in_its_metrics():
    values, labels = made_up(20, 0)
    assert set(Regression(("age",)).metrics(values[:, :1], labels[:, :1])) == {
        MAE,
        "rmse",
        "r2",
        "spearman",
    }


def test_a_guess_explains_nothing():
    _, labels = made_up(2000, 1)
    chance = TASK.chance(labels[:1000], labels[1000:])
    assert chance["r2"] == pytest.approx(0, abs=0.02) and chance["r2"] < 0
    assert chance[f"{MAE}/age"] == pytest.approx(20 * np.sqrt(2 / np.pi), rel=0.1)
    assert "spearman" not in chance


def test_directions_units_and_bounds():
    assert {
        name for name in (MAE, "rmse", "r2", "spearman", f"{MAE}/age") if not TASK.describe(name).higher_is_better
    } == {
        MAE,
        "rmse",
        f"{MAE}/age",
    }
    assert TASK.describe(f"{MAE}/age").unit == "target" and TASK.describe("r2").unit == ""
    assert TASK.describe("r2").low is None and TASK.describe(MAE).high is None
    with pytest.raises(WhymaskError, match="rmse"):
        TASK.describe("accuracy")


# labels


def test_numbers_texts_and_rows():
    task, labels = Regression.encode(RawLabels(["1.5", "", None, " 2 ", np.nan], column="age"), "x")
    assert task.names == ("age",) and task.labelled(labels).tolist() == [True, False, False, True, False]
    assert labels[[0, 3], 0].tolist() == [1.5, 2.0] and labels.shape == (5, 1)
    task, labels = Regression.encode(RawLabels([[1.0, 2.0], None, [3.0, -4.0], []]), "x")
    assert task.names == ("label 0", "label 1") and task.labelled(labels).tolist() == [True, False, True, False]
    both, _ = Regression.encode(RawLabels(np.array([[1.0, 2.0]]), names=("age", "weight")), "x")
    assert both == TASK and both.text() == "regression of age, weight"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "two"], "targets that are no numbers.*two.*--task classification"),
        ([1.0, np.inf], "infinite"),
        ([[1.0, 2.0], [1.0]], "rows of several lengths"),
        ([[1.0, 2.0], [1.0, np.nan]], "1 images, number 1 for one, have some of their 2 targets only"),
    ],
)
def test_what_are_no_targets(values, message):
    with pytest.raises(WhymaskError, match=message):
        Regression.encode(RawLabels(values), "x")


def test_a_constant_target_cannot_be_learnt():
    TASK.check(np.array([[1.0, 2.0], [2.0, 3.0]]), "x")
    with pytest.raises(WhymaskError, match="'weight' is the same for all"):
        TASK.check(np.array([[1.0, 2.0], [2.0, 2.0]]), "x")


def test_the_summary_says_how_targets_are_spread():
    (row,) = Regression(("age",)).summary(np.arange(5.0)[:, None])["targets"]
    assert row == {"name": "age", "mean": 2.0, "std": np.std(range(5)), "quantiles": [0, 1, 2, 3, 4]}


def test_strata_are_the_fifths_of_each_target():
    _, labels = made_up(100, 0)
    strata = TASK.strata(labels, 100)
    assert [len(rows) for rows in strata] == [20] * 10
    assert labels[strata[0], 0].max() < labels[strata[1], 0].min()
    assert [len(rows) for rows in TASK.strata(labels, 9)] == [100, 100], "few groups are not cut"


# training


def test_the_loss_is_the_squared_error_of_standardised_targets():
    _, labels = made_up(50, 0)
    objective = TASK.objective(labels, LossConfig())
    assert objective.width == 2
    outputs, targets = torch.randn(8, 2, generator=torch.manual_seed(0)), torch.from_numpy(labels[:8]).float()
    scaled = torch.from_numpy((labels[:8] - labels.mean(0)) / labels.std(0)).float()
    assert objective(outputs, targets) == pytest.approx(F.mse_loss(outputs, scaled).item(), rel=1e-4)
    torch.testing.assert_close(objective.read(scaled), targets, rtol=1e-5, atol=1e-3)


def test_bins_add_the_cross_entropy_of_parts_of_the_range():
    labels = np.array([[0.0], [1.0], [4.0], [10.0]])
    task = Regression(("count",))
    plain, binned = task.objective(labels, LossConfig()), task.objective(labels, LossConfig(bins=5))
    assert binned.width == 6
    outputs = torch.randn(5, 6, generator=torch.manual_seed(0))
    targets = torch.tensor([[0.0], [1.9], [2.1], [10.0], [12.0]])
    parts = torch.tensor([0, 0, 1, 4, 4])
    expected = plain(outputs[:, :1], targets) + F.cross_entropy(outputs[:, 1:], parts)
    assert binned(outputs, targets) == pytest.approx(expected.item())
    assert torch.equal(binned.read(outputs), plain.read(outputs[:, :1])), "the bins have no say in the prediction"
    assert binned.about()["bins"] == 5


def test_bins_of_several_targets_stand_side_by_side():
    _, labels = made_up(50, 0)
    objective = TASK.objective(labels, LossConfig(bins=4))
    targets = torch.from_numpy(labels).float()
    place = (targets - targets.amin(0)) / (targets.amax(0) - targets.amin(0))
    parts = (place * 4).long().clamp(max=3)
    outputs = torch.zeros(50, 10)
    outputs[:, :2] = (targets - targets.mean(0)) / targets.std(0, correction=0)
    outputs[:, 2:] = 20.0 * F.one_hot(parts, 4).permute(0, 2, 1).flatten(1)
    assert objective(outputs, targets).item() < 1e-3, "outputs that are right in both ways have no loss"


def test_one_bin_is_refused_and_a_constant_target_has_a_loss():
    with pytest.raises(WhymaskError, match="bins 1"):
        TASK.objective(np.zeros((3, 2)), LossConfig(bins=1))
    objective = TASK.objective(np.ones((3, 2)), LossConfig(bins=3))
    assert objective(torch.zeros(3, 8), torch.ones(3, 2)).isfinite()


def test_the_head_that_is_kept_gives_the_targets_units():
    _, labels = made_up(50, 0)
    objective = TASK.objective(labels, LossConfig(bins=3))
    generator = torch.manual_seed(0)
    features, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((6, 5), (8, 5), (8,)))
    trained = objective.read(F.linear(features, weight, bias))
    torch.testing.assert_close(F.linear(features, *objective.fold(weight, bias)), trained)


def test_what_predict_writes():
    assert TASK.header == ["age", "weight"] and TASK.row(np.array([31.25, 1000.0])) == ["31.25", "1000"]
