"""The theory lab as a user meets it: small settings of every claim, shares, the command, bad input."""

import json
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from whymask import WhymaskError
from whymask.disk import read_json
from whymask.theory import Lab, MultiView, Regime, TheorySettings, theory
from whymask.theory.claims import CLAIMS, frozen, growth
from whymask.theory.claims.coverage import captured_row
from whymask.theory.claims.downstream import gain_row
from whymask.theory.claims.ensembles import gain
from whymask.theory.claims.growth import _crossing
from whymask.theory.claims.record import at_most, averaged, pooled, tally, within, worst
from whymask.theory.settings import NAMES, classes_up_to, parse_seeds
from whymask.theory.store import Store

KEYS = {
    "id", "clock", "source", "predicted", "measured", "low", "high", "threshold", "seeds", "state", "rows",
}  # fmt: skip
OF_CLOCKS = {"coverage", "purity", "kernel-lottery", "downstream", "retention"}


@pytest.fixture(autouse=True, scope="module")
def few_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth, "IMAGES", 60)
        patch.setattr(growth, "KERNELS", 3)
        patch.setattr("whymask.theory.lab.PLAIN_STEPS", 20)
        patch.setattr("whymask.theory.claims.robustness.IMAGES", 6)
        patch.setattr("whymask.theory.claims.ratios.WIDTHS", (20, 150))
        patch.setattr("whymask.theory.claims.interactions.IMAGES", 3)
        patch.setattr("whymask.theory.claims.regression.EPOCHS", 3)
        patch.setattr(frozen, "GRID", frozen.GRID[::22])
        patch.setattr(frozen, "SEARCH", 1)
        yield


def small(**changes) -> Regime:
    return replace(Regime(MultiView(k=3, d=12), m=4, N=60, batch=20, test=40, epochs=4, pixel_epochs=3), **changes)


def settings(**changes) -> TheorySettings:
    return replace(TheorySettings(small(), seeds="3", scale_k=(3, 4)), **changes)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    out = tmp_path_factory.mktemp("theory") / "run"
    return out, theory(out, settings())


def test_every_claim_is_a_row_of_the_schema(everything):
    out, table = everything
    written = read_json(out / "claims.json")
    assert written["schema"] == 2 and written["seconds"] > 0 and written["seeds"] == [0, 1, 2]
    assert written["setting"]["data"]["k"] == 3 and written["setting"]["tau"] > 1
    ids = [claim["id"] for claim in written["claims"]]
    assert list(dict.fromkeys(ids)) == list(CLAIMS)
    assert {id for id in ids if ids.count(id) == 3} == OF_CLOCKS | {"ratios", "regression"}
    assert {id for id in ids if ids.count(id) == 4} == {"interactions"}
    assert {id for id in ids if ids.count(id) == 2} == {"masks", "optimisers", "robustness"}
    for claim in written["claims"] + written["controls"]:
        assert set(claim) == KEYS
        assert claim["rows"] and all(row["what"] for row in claim["rows"])
        if claim["threshold"] is None:
            assert claim["state"] is None
    assert json.loads(json.dumps(table)) == written


def test_the_page_and_the_arrays_are_there(everything):
    out, _ = everything
    page = (out / "report.html").read_text()
    assert "supervised lottery" in page.lower() and "fails</span>" in page
    arrays = np.load(out / "arrays.npz")
    assert arrays["start/kernels"].shape == arrays["own/kernels"].shape == (3, 12, 12)
    assert arrays["learned-own/head"].shape == (3, 3, 12)
    assert arrays["own/growth"].shape[0] == 3 and arrays["own/growth"].shape[2] == 6
    assert np.allclose(arrays["features"] @ arrays["features"].T, np.eye(6), atol=1e-6)


def test_a_notebook_shows_claims_and_controls_as_tables_and_text_is_short(everything):
    _, table = everything
    html = table._repr_html_()
    assert html.count("<table") == 2 and html.count("<tr") == len(table["claims"]) + len(table["controls"]) + 2
    assert "tau = 1: no kernel grows" in html and "holds" in html
    assert repr(table).startswith("<theory: ") and " fail" in repr(table) and len(repr(table)) < 300


def test_negative_controls_hold(everything):
    _, table = everything
    controls = {claim["id"]: claim for claim in table["controls"]}
    assert controls["control-tau"]["measured"] == 0
    assert controls["control-theta"]["measured"] == 1
    assert controls["control-frozen"]["measured"] == 0
    assert controls["control-theta"]["rows"][1]["measured"] == 0  # with masks, nothing grows at that tau


@pytest.mark.usefixtures("undrawn")
def test_shares_of_seeds_merge_to_equal_results(everything, tmp_path):
    _, whole = everything
    chosen = ("coverage", "downstream", "growth", "data-coverage", "reconstruction")
    theory(tmp_path, settings(seeds="0:2", claims=chosen))
    merged = theory(tmp_path, settings(seeds="2:3", claims=chosen))
    assert merged["claims"] == [claim for claim in whole["claims"] if claim["id"] in chosen]
    assert merged["seeds"] == [0, 1, 2]


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_computed_twice(everything, monkeypatch):
    out, table = everything
    monkeypatch.setattr("whymask.theory.descent.OwnClock.run", None)
    monkeypatch.setattr("whymask.theory.descent.MiniBatchDescent.run", None)
    assert theory(out, settings())["claims"] == table["claims"]


@pytest.mark.usefixtures("undrawn")
def test_claims_are_added_to_a_run(tmp_path):
    theory(tmp_path, settings(claims=("growth",), seeds="2"))
    table = theory(tmp_path, settings(claims=("purity",), seeds="2"))
    assert {claim["id"] for claim in table["claims"]} == {"growth", "purity"}


@pytest.mark.usefixtures("undrawn")
def test_threads_change_no_number(everything, tmp_path):
    _, whole = everything
    chosen = ("purity", "retention")
    table = theory(tmp_path, settings(regime=small(threads=3), claims=chosen))
    assert table["claims"] == [claim for claim in whole["claims"] if claim["id"] in chosen]


@pytest.mark.usefixtures("undrawn")
def test_every_claim_is_measured_for_other_numbers_of_features(tmp_path):
    data = MultiView(k=3, L=3, C_p=1, gamma=0.05, covered=1.0, split="equal")
    chosen = tuple(id for id in CLAIMS if id not in ("scale", "ensembles"))
    table = theory(tmp_path, settings(regime=small(data=data, q=4), claims=chosen, seeds="2"))
    assert all(claim["rows"] for claim in table["claims"])


@pytest.mark.usefixtures("undrawn")
def test_scale_keeps_the_classes_that_it_ran(tmp_path):
    theory(tmp_path, settings(claims=("scale",), seeds="2", scale_k=(4, 3, 3)))
    table = theory(tmp_path, settings(claims=("coverage",), seeds="2", scale_k=(3,)))
    scale = next(claim for claim in table["claims"] if claim["id"] == "scale")
    assert {row["k"] for row in scale["rows"] if "k" in row} == {3, 4}
    with pytest.raises(WhymaskError, match="do not fit into patches"):
        theory(tmp_path, settings(claims=("scale",), seeds="2", scale_k=(3, 20)))


def test_covered_is_the_share_that_pretraining_shows_and_not_the_test():
    lab = Lab(small(data=MultiView(k=3, d=12, covered=0.5, sigma=0.0), N=200), [0, 1])
    shown = lab.pretraining.shown

    def seen(batch):
        return (batch.patches.float() @ lab.features.float().mT).abs().amax((0, 1, 2)) > 1e-3

    assert shown.sum() == 3 and (seen(lab.images([0], pretraining=True)[0]) == shown).all()
    assert seen(lab.images([0])[0]).all() and seen(lab.tests["multi"]).all()
    assert captured_row(lab, lab.pretrained("own"))["count"] == 2 * 3


def test_networks_are_compared_at_the_training_loss_only():
    lab = Lab(small(), [0, 1, 2])
    net = lab.classifier("learned", "random")
    early = replace(net, loss=np.array([2.3, 0.01, 0.01]))
    late = replace(net, loss=np.array([0.01, 0.01, 0.01]))
    row = gain_row(lab, early, late, "x", 0.0)
    assert row["seeds"] == 2 and "2 of 3 seeds" in row["what"]
    assert gain_row(lab, replace(net, loss=np.full(3, 2.3)), late, "x", 0.0)["state"] == "not measured"


def test_a_damaged_file_is_made_again(tmp_path, capsys):
    store = Store(tmp_path)
    store.get("a", [0], 1, lambda seeds: {"x": np.ones((1, 2))})
    (tmp_path / "a" / "0.npz").write_bytes(b"PK cut off")
    again = Store(tmp_path).get("a", [0], 1, lambda seeds: {"x": np.full((1, 2), 2.0)})
    assert again["x"].tolist() == [[2, 2]] and "damaged" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("changes", [{"split": "equal", "sigma": 0.0}, {"L": 1}, {"gamma": 0.1, "mu": 0.5}])
def test_every_kind_of_data_reaches_the_page(changes, tmp_path):
    chosen = ("supervised-lottery", "data-coverage", "reconstruction")
    theory(tmp_path, settings(regime=small(data=MultiView(k=3, **changes)), claims=chosen, seeds="2"))
    assert (tmp_path / "report.html").exists()


def test_another_setting_needs_another_folder(everything):
    out, _ = everything
    with pytest.raises(WhymaskError, match=r"theta: 0\.5 there, 0\.6 now"):
        theory(out, settings(regime=small(theta=0.6)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--theta", "1.0"], "strictly between 0 and 1"),
        (["--q", "1.5"], "q >= 2"),
        (["--k", "100", "--d", "60"], "L·k <= d"),
        (["--P", "6"], "overflow"),
        (["--batches", "0"], "batches=0"),
        (["--scale", "nan"], "scale=nan"),
        (["--tau", "-1"], "tau=-1"),
        (["--pixel-epochs", "0"], "pixel_epochs=0"),
        (["--budget", "0.0001"], "images a batch fit"),
        (["--seeds", "1"], "at least 2"),
        (["--seeds", "4:5"], "at least 2"),
        (["--seeds", "many"], "--seeds many"),
        (["--N", "110"], "multiple"),
        (["--claims"], "claim"),
    ],
)
def test_bad_input_names_the_rule(arguments, message, tmp_path, monkeypatch, capsys):
    from whymask.cli import main

    monkeypatch.setattr(sys, "argv", ["whymask", "theory", "--out", str(tmp_path / "run"), *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert message in " ".join((said.err + said.out).split())
    assert not (tmp_path / "run" / "claims.json").exists()


def test_no_claims_is_an_error(tmp_path):
    with pytest.raises(WhymaskError, match="no claim was given"):
        theory(tmp_path, settings(claims=()))


def test_the_names_that_flags_know_are_those_of_the_claims():
    assert list(CLAIMS) == list(NAMES)
    assert all(name == claim.id for name, claim in CLAIMS.items())


def test_scale_compares_classes_up_to_k():
    assert classes_up_to(10) == (10, 20)
    assert classes_up_to(100) == (10, 20, 50, 100)


def test_seeds_are_a_number_or_a_range():
    assert parse_seeds(TheorySettings(seeds="3")) == [0, 1, 2]
    assert parse_seeds(TheorySettings(seeds="3:5")) == [3, 4]
    assert len(parse_seeds(TheorySettings())) == 20
    assert len(parse_seeds(TheorySettings(quick=True))) == 5


def test_a_seed_among_others_has_the_numbers_that_it_has_alone():
    setting = small(precision="64")
    together, alone = Lab(setting, [0, 1, 2]), Lab(setting, [1])
    for train in (lambda lab: lab.pretrained("own"), lambda lab: lab.classifier("learned", "own")):
        ours, its = train(together).network.kernels[1], train(alone).network.kernels[0]
        assert (ours - its).abs().max() < 1e-10


def test_a_store_pads_curves_by_their_last_value(tmp_path):
    curves = np.array([[1.0, 2.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
    store = Store(tmp_path)
    store.get("a", [0, 1], 2, lambda seeds: {"growth": curves})
    assert np.load(tmp_path / "a" / "0.npz")["growth"].tolist() == [1.0, 2.0]
    read = Store(tmp_path).get("a", [0, 1], 2, lambda seeds: pytest.fail("it was there"))
    assert (read["growth"] == curves).all()


def test_rows_pool_and_average():
    row = pooled("x", np.array([9, 10]), np.array([10, 10]), [4, 7], 0.9)
    assert row["measured"] == 0.95 and row["worst_seed"] == 4 and row["worst"] == 0.9 and row["count"] == 20
    assert row["state"] == "undecided" and 0.75 < row["low"] < 0.752  # scipy.stats.binomtest(19, 20).proportion_ci()
    nothing = pooled("x", np.array([0]), np.array([0]), [0], 0.9)
    assert nothing["measured"] is None and nothing["state"] == "not measured"


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([0.1, 0.1001], "holds"),
        ([0.1, 0.2], "undecided"),
        ([-0.1, -0.1001], "fails"),
        ([0.0, 0.0], "fails"),  # no more than 0
        ([0.1], "undecided"),  # a single seed has no interval
    ],
)
def test_a_claim_holds_or_fails_only_with_its_whole_interval(values, state):
    assert averaged("x", np.array(values), 0.0)["state"] == state


def test_a_threshold_other_than_0_may_be_reached_and_need_not_be_passed():
    assert averaged("x", np.array([0.9, 0.9]), 0.9)["state"] == "holds"
    assert averaged("x", np.array([0.8, 0.81]), 0.9)["state"] == "fails"
    assert pooled("x", np.array([955]), 1000, [0], 0.95)["state"] == "undecided"
    assert at_most(pooled("x", np.array([0]), 1000, [0]), 0.05)["state"] == "holds"
    assert at_most(pooled("x", np.array([0]), 10, [0]), 0.05)["state"] == "undecided"
    assert at_most(pooled("x", np.array([9]), 10, [0]), 0.05)["state"] == "fails"
    assert at_most(pooled("x", np.array([0]), 0, [0]), 0.05)["state"] == "not measured"


@pytest.mark.parametrize(
    ("differences", "state"),
    [
        ([0.05, 0.051], "holds"),
        ([0.05, 0.11], "undecided"),
        ([-0.11, -0.05], "undecided"),
        ([0.2, 0.201], "fails"),
        ([-0.2, -0.201], "fails"),
    ],
)
def test_a_tolerance_is_kept_by_the_whole_interval_or_not(differences, state):
    assert within("x", np.array(differences), 0.1)["state"] == state


def test_a_claim_of_several_rows_is_in_the_worst_state_of_them():
    assert worst(["holds", "holds"]) == "holds"
    assert worst(["holds", "not measured"]) == "not measured"
    assert worst(["not measured", "undecided"]) == "undecided"
    assert worst(["undecided", "fails", "holds"]) == "fails"


def test_claims_are_counted_by_state():
    assert tally(["holds", "fails", None, "not measured", "holds", "undecided"]) == (
        "2 hold, 1 fails, 1 undecided, 1 not measured"
    )
    assert tally([None]) == "no claim has a threshold"


def test_accuracies_have_intervals_within_0_and_1(everything):
    _, table = everything
    rows = [row for claim in table["claims"] for row in claim["rows"] if row.get("view")]
    known = [row for row in rows if row["low"] is not None]
    assert known and all(0 <= row["low"] <= row["measured"] <= row["high"] <= 1 for row in known)


@pytest.mark.usefixtures("undrawn")
def test_the_command_says_a_line_a_claim_and_counts_them(everything, capsys):
    out, table = everything
    theory(out, settings())
    said = capsys.readouterr().err.splitlines()
    (line,) = [line for line in said if line.startswith("coverage: ")]
    assert "own clock" in line and "; common clock" in line
    assert tally([claim["state"] for claim in table["claims"]]) in said


CONTROL = {"frozen": [0.5] * 9, "matched": [0.8, 0.81] * 4}


@pytest.mark.parametrize(
    ("changed", "seeds", "found", "state", "trained"),
    [
        ({}, 7, 1, "holds", ["frozen", "pretrained", "matched"]),
        ({}, 2, 0, "undecided", ["frozen", "pretrained", "matched"]),  # none are left to confirm
        ({"frozen": [0.95] * 9}, 7, 0, "fails", ["frozen"]),  # it is decided: the rest is not trained
        ({"pretrained": [0.85] * 9}, 7, 0, "fails", ["frozen", "pretrained"]),
        ({"matched": [0.8, 0.81, 0.99, 0.8, 0.99, 0.8, 0.99]}, 7, 0, "fails", ["frozen", "pretrained", "matched"]),
    ],
)
def test_a_setting_is_found_by_some_seeds_and_confirmed_by_others(changed, seeds, found, state, trained, monkeypatch):
    accuracies = {**CONTROL, "pretrained": [1.0] * 9} | changed
    asked = []

    def measure(name, lab):
        asked.append(name)
        return np.array([accuracies[name][seed] for seed in lab.seeds]), 1.0

    monkeypatch.setattr(frozen, "SEARCH", 2)
    networks = {name: partial(measure, name) for name in ("frozen", "pretrained", "matched")}
    monkeypatch.setattr(frozen, "GRID", frozen.GRID[1:2])
    monkeypatch.setattr(frozen, "NETWORKS", networks)
    monkeypatch.setattr(frozen, "_others", lambda of, lab: [])
    (claim,) = frozen.frozen(Lab(small(), list(range(seeds))))
    assert (claim.measured, claim.state) == (found, state)
    assert asked[: len(trained)] == trained and len(asked) in (len(trained), 2 * len(trained))
    assert (frozen.GRID[0].name in claim.rows[0]["what"]) == (state == "holds")


def test_settings_of_the_search_are_multiples_of_the_regimes():
    regime = Regime(MultiView(k=3, d=9, P=20), m=10)
    one, other = frozen.Setting(1.0, 1, 1, "as drawn"), frozen.Setting(0.4, 3, 2, "overlapping features")
    assert one.of(regime) == regime
    there = other.of(regime)
    assert (there.m, there.data.L, there.data.width, there.data.overlap) == (8, 4, 12, 0.5)
    assert there.data.noise == pytest.approx(3 * 0.1 / 12**0.5)


def test_a_head_by_least_squares_is_scikit_learns_ridge():
    from sklearn.linear_model import Ridge

    lab = Lab(small(precision="64"), [0, 1])
    network, images = lab.start().of(slice(1, 2)), lab.images([1])
    codes = np.concatenate([network.codes(batch)[0].numpy() for batch in images])
    labels = np.concatenate([batch.labels[0].numpy() for batch in images])
    centre, size = codes.mean(0), codes.std(0, ddof=1)
    fitted = Ridge(len(codes) * frozen.RIDGES[1]).fit((codes - centre) / size, np.eye(3)[labels])
    test = lab.tests["single"]
    said = fitted.predict((network.codes(test)[0].numpy() - centre) / size).argmax(1)
    assert frozen._by_ridge(lab)[1, 1] == pytest.approx((said == test.labels[0].numpy()).mean())


def test_an_ensemble_gains_what_its_mean_output_gains():
    right, wrong = [2.0, 0.0], [0.0, 1.0]
    logits = np.array([[right, wrong], [wrong, right]])  # two members, each right on another image of class 0
    assert gain(logits, torch.tensor([0, 0]), 2).tolist() == [0.5]


def test_the_crossing_lies_between_two_factors():
    shares = np.array([0, 0, 0, 0.25, 0.75, 1, 1, 1])
    assert _crossing("equal", 2, 0.5, shares)["crossing"] == pytest.approx(0.925)
    assert _crossing("equal", 2, 0.5, np.zeros(8))["crossing"] is None
