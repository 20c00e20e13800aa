from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whymask.data import splits
from whymask.data.derive import derive
from whymask.data.glyph_settings import Glyphs
from whymask.data.glyphs import glyph_source
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.splits import groups_of, hold_out, leaking_rows
from whymask.data.store import ImageSet, open_images
from whymask.errors import WhymaskError
from whymask.tasks import Classification, Multilabel, Regression
from whymask.tasks.budgets import Budget, auto_budgets, auto_budgets_text, parse_budget

seeds = st.integers(0, 10_000)
budgets = st.one_of(
    st.builds(Budget, st.just("count"), st.integers(1, 3)),
    st.builds(Budget, st.just("fraction"), st.floats(0.001, 1)),
    st.just(Budget("all")),
)


def image_set(labels, *, fingerprint="data", keys=None, hashes=None, columns=None, source_splits=None) -> ImageSet:
    """An image set whose pixels do not matter."""
    labels = np.asarray(labels, np.int64)
    n = len(labels)
    return ImageSet(
        images=np.zeros((n, 2, 2, 1), np.uint8),
        keys=keys or [f"image {i}" for i in range(n)],
        labels=labels,
        task=Classification(tuple("abcdefghij"[: labels.max(initial=0) + 1])),
        splits=None if source_splits is None else np.asarray(source_splits),
        tags=None,
        columns=columns or {},
        hashes=np.array(hashes or [f"{i:032d}" for i in range(n)], "S32"),
        skipped=[],
        fingerprint=fingerprint,
        preprocessing=None,  # type: ignore[arg-type]
        path=Path(),
        nbytes=0,
    )


def permuted(images: ImageSet, order: np.ndarray) -> ImageSet:
    return image_set(images.labels[order], hashes=images.hashes[order].tolist())


# Labels of 1 to 40 images in 1 to 4 classes, some without
labellings = st.lists(st.integers(-1, 3), min_size=1, max_size=40).map(np.array)


# ---------------------------------------------------------------------------------------------- test


@given(labels=labellings)
def test_the_test_share_is_stratified_and_labelled(labels):
    test = splits.test_rows(image_set(labels), None)
    assert not test[labels < 0].any()
    for c in np.unique(labels[labels >= 0]):
        n = (labels == c).sum()
        assert test[labels == c].sum() == (0 if n == 1 else max(1, np.floor(0.2 * n + 0.5)))


@given(labels=labellings, seed=seeds)
def test_the_test_share_does_not_depend_on_the_order_of_files(labels, seed):
    order = np.random.default_rng(seed).permutation(len(labels))
    images = image_set(labels)
    np.testing.assert_array_equal(
        splits.test_rows(images, None)[order], splits.test_rows(permuted(images, order), None)
    )


def test_the_test_share_depends_on_the_fingerprint_and_the_share():
    labels = np.arange(200) % 4
    test = splits.test_rows(image_set(labels), None)
    other = splits.test_rows(image_set(labels, fingerprint="other data"), None)
    assert (test != other).any()
    # chance would have a fifth of the one in the other
    assert 0.02 < (test & other).sum() / test.sum() < 0.5
    assert splits.test_rows(image_set(labels), None, share=0.5).sum() == 100


@pytest.mark.parametrize(
    ("counts", "share"), [([500, 100, 99], 0.2), ([100, 100], 0.2), ([99], 0.21), ([60] * 3, 0.34), ([14] * 10, 0.5)]
)
def test_a_fifth_is_tested_on_and_more_of_few_labels_so_that_the_median_class_has_twenty(counts, share):
    assert splits.share_for(counts) == share


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=30), seed=seeds)
def test_of_each_class_the_groups_that_show_it_are_counted(labels, seed):
    groups = np.random.default_rng(seed).integers(0, 4, len(labels)).astype(str)
    task, labels = Classification(("a", "b", "c")), np.array(labels)
    expected = [len({g for g, label in zip(groups, labels, strict=True) if label == c}) for c in range(3)]
    assert splits.counts_of(task, labels, groups) == expected
    assert splits.counts_of(task, labels, None) == [int((labels == c).sum()) for c in range(3)]
    several = Multilabel(("a", "b", "c"))
    assert splits.counts_of(several, np.eye(3, dtype=np.int64)[labels], groups) == expected
    numbers = Regression(("a",))
    assert splits.counts_of(numbers, labels[:, None].astype(float), groups) == [len(set(groups))]


def test_few_labels_are_tested_on_more_and_that_is_said_and_is_other_data_than_before(tmp_path):
    labels = np.arange(140) % 10
    pixels = np.random.default_rng(0).integers(0, 255, (140, 8, 8), dtype=np.uint8)

    def prepared(share: float | None = None, said: list[str] | None = None) -> Prepared:
        settings = DataSettings(test_share=share, store=tmp_path)
        return prepare((pixels, labels), settings, say=(said if said is not None else []).append)

    said: list[str] = []
    half, fifth = prepared(said=said), prepared(0.2)
    assert (len(half.test), len(fifth.test)) == (70, 30)
    assert any(line.startswith("50% of the labelled images") and "--test-share 0.2" in line for line in said)
    # Runs of before, which tested on a fifth whatever the labels, are of the images' fingerprint alone.
    assert fifth.identity == fifth.images.fingerprint and half.identity == f"{fifth.identity} test 0.5"


@pytest.mark.parametrize("share", [0.2, 0.3, 0.5])
def test_what_goes_on_from_a_run_tests_on_the_same_images_whatever_share_was_usual_then(tmp_path, share):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    data = (pixels, np.arange(40) % 4)
    run = prepare(data, DataSettings(test_share=share, store=tmp_path))
    for again in ({}, {"test_share": share}):
        assert (prepare(data, DataSettings(store=tmp_path, **again), like=run.identity).test == run.test).all()
    assert len(prepare(data, DataSettings(store=tmp_path), like="of other images").test) == 20
    assert len(prepare(data, DataSettings(test_share=0.4, store=tmp_path), like=run.identity).test) == 16


def test_a_share_beside_test_images_that_the_data_name_is_refused(tmp_path):
    arrays = {"x_train": np.zeros((4, 8, 8), np.uint8), "y_train": np.arange(4) % 2}
    arrays |= {"x_test": np.ones((4, 8, 8), np.uint8), "y_test": np.arange(4) % 2}
    with pytest.raises(WhymaskError, match=r"--test-share 0.3: .* names its own test images"):
        prepare(arrays, DataSettings(test_share=0.3, store=tmp_path))


def test_the_test_split_of_the_source_is_used_if_it_has_labels():
    labels = [0, 1, 0, 1, -1, 0, 1, 0, 1, 0, 1, 0]
    named = ["test", "test", "train", "train", "test"] + ["train"] * 7
    test = splits.test_rows(image_set(labels, source_splits=named), None)
    assert np.flatnonzero(test).tolist() == [0, 1]

    without = splits.test_rows(image_set(labels, source_splits=["train"] * 4 + ["test"] + ["train"] * 7), None)
    np.testing.assert_array_equal(without, splits.test_rows(image_set(labels), None))
    assert without.sum() == 2


@given(labels=labellings, seed=seeds, count=st.integers(1, 12))
def test_groups_stay_whole_in_the_test_share(labels, seed, count):
    groups = np.random.default_rng(seed).integers(count, size=len(labels)).astype(str)
    test = splits.test_rows(image_set(labels), groups)
    labelled = labels >= 0
    assert not np.isin(groups[test], groups[labelled & ~test]).any()
    assert not test[~labelled].any()
    for c in np.unique(labels[test]):
        assert (labels[~test] == c).any(), "a class is tested that nothing is left to learn from"


@given(labels=labellings, seed=seeds)
def test_groups_in_the_test_share_do_not_depend_on_the_order_of_files(labels, seed):
    rng = np.random.default_rng(seed)
    groups, order = rng.integers(8, size=len(labels)).astype(str), rng.permutation(len(labels))
    images = image_set(labels)
    test = splits.test_rows(images, groups)
    np.testing.assert_array_equal(test[order], splits.test_rows(permuted(images, order), groups[order]))


def test_many_small_groups_come_near_to_the_share_in_every_class():
    rng = np.random.default_rng(0)
    groups = rng.integers(150, size=1200).astype(str)
    labels = rng.choice(4, p=[0.1, 0.2, 0.3, 0.4], size=1200)
    test = splits.test_rows(image_set(labels), groups)
    shares = np.bincount(labels[test]) / np.bincount(labels)
    assert shares == pytest.approx(np.full(4, 0.2), abs=0.03)


def test_every_class_of_two_groups_is_tested():
    # Half of a class is further from a fifth than nothing is, and yet it has to be tested.
    labels = np.repeat([0, 1], 20)
    groups = np.repeat(["a", "b", "c", "d"], 10)
    test = splits.test_rows(image_set(labels), groups)
    assert np.bincount(labels[test]).tolist() == [10, 10]


def test_nothing_is_tested_where_each_class_is_one_group():
    labels = np.repeat([0, 1], 20)
    assert not splits.test_rows(image_set(labels), labels.astype(str)).any()


def test_nothing_is_tested_without_labels():
    for groups in (None, np.array(["a", "b", "b"])):
        assert splits.test_rows(image_set([-1, -1, -1]), groups).tolist() == [False] * 3


def test_decoded_images_are_split_and_their_copies_leak(tmp_path):
    source = glyph_source(Glyphs(classes=3, unlabelled=20, train=30, test=0))
    copies = type(source)(
        name="glyphs and copies",
        keys=[*source.keys, *(f"copy of {k}" for k in source.keys[20:])],
        read=lambda i: source.read(i if i < 50 else i - 30),
        stamp="copies",
        labels=np.concatenate([source.labels, np.full(30, -1)]),
        task=source.task,
    )
    images = open_images(copies, derive(copies), tmp_path)
    test = splits.test_rows(images, None)
    assert np.bincount(images.labels[test]).tolist() == [2, 2, 2]
    np.testing.assert_array_equal(np.flatnonzero(leaking_rows(images, test, None)), np.flatnonzero(test) + 30)


# ------------------------------------------------------------------------------------------- leaking


def test_equal_pixels_and_groups_of_test_images_leak():
    hashes = ["a", "b", "a", "c", "d", "a"]
    images = image_set([0, 1, 0, 1, -1, 0], hashes=hashes)
    test = np.array([True, False, False, False, False, True])
    assert np.flatnonzero(leaking_rows(images, test, None)).tolist() == [2]
    groups = np.array(["p", "q", "q", "r", "p", "r"])
    assert np.flatnonzero(leaking_rows(images, test, groups)).tolist() == [2, 3, 4]
    assert not leaking_rows(images, np.zeros(6, bool), groups).any()


@given(labels=labellings, seed=seeds)
def test_after_leaks_are_gone_no_pixel_and_no_group_is_on_both_sides(labels, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(10, size=len(labels)).astype(str)
    images = image_set(labels, hashes=[f"{h}" for h in rng.integers(30, size=len(labels))])
    test = splits.test_rows(images, groups)
    rest = ~test & ~leaking_rows(images, test, groups)
    assert not np.isin(images.hashes[rest], images.hashes[test]).any()
    assert not np.isin(groups[rest], groups[test]).any()


# -------------------------------------------------------------------------------------------- groups


def test_groups_by_column():
    images = image_set([0, 1, -1, -1], columns={"patient": np.array(["p1", "p1", "", ""])})
    groups = groups_of(images, "patient")
    assert groups is not None
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3, "unlabelled images without a patient are groups of their own"
    assert groups_of(images, None) is None


def test_a_labelled_image_without_a_group_is_an_error():
    images = image_set([0, 1], columns={"patient": np.array(["p1", ""])})
    with pytest.raises(WhymaskError, match="no value for 1 labelled images, such as image 1"):
        groups_of(images, "patient")


def test_groups_by_regular_expression():
    images = image_set([0, 1, 0], keys=["/d/p12_a.png", "/d/p12_b.png", "/d/p3_a.png"])
    assert groups_of(images, r"/p(\d+)_")[:].tolist() == ["12", "12", "3"]  # type: ignore[index]
    assert groups_of(images, r"p\d+")[:].tolist() == ["p12", "p12", "p3"]  # type: ignore[index]
    assert groups_of(images, r"p(1|3)(\d*)")[:].tolist() == ["1", "1", "3"]  # type: ignore[index]
    assert groups_of(images, r".*p(12)|(.+)")[:].tolist() == ["12", "12", "/d/p3_a.png"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("group_by", "said"),
    [
        ("p(", "no regular expression"),
        (r"/(d)/(\w+)", r"puts all 3 images into the one group 'd'"),
        ("p12", "does not match 1 of 3 images, such as /d/q.png"),
        ("x", "site"),
    ],
)
def test_group_by_that_cannot_be_used(group_by, said):
    images = image_set(
        [0, 1, 0], keys=["/d/p12_a.png", "/d/p12_b.png", "/d/q.png"], columns={"site": np.array(["a"] * 3)}
    )
    with pytest.raises(WhymaskError, match=said):
        groups_of(images, group_by)


# ------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("given_as", "budget", "name"),
    [
        ("10", Budget("count", 10), "10"),
        (10, Budget("count", 10), "10"),
        ("1%", Budget("fraction", 0.01), "1%"),
        ("0.5%", Budget("fraction", 0.005), "0.5%"),
        ("100%", Budget("fraction", 1.0), "100%"),
        ("all", Budget("all"), "all"),
        ("1000000", Budget("count", 1_000_000), "1000000"),
    ],
)
def test_budgets_are_parsed_and_named(given_as, budget, name):
    assert parse_budget(given_as) == budget
    assert budget.name == name


@pytest.mark.parametrize("wrong", ["0", 0, "-5", "ten", "0%", "101%", "0.5", "", "1e3", "nan%", "²"])
def test_what_is_no_budget(wrong):
    with pytest.raises(WhymaskError, match="expected"):
        parse_budget(wrong)


def test_counts():
    assert Budget("count", 10).count(50) == 10
    assert [Budget("fraction", 0.07).count(n) for n in (1, 100, 101)] == [1, 7, 8]
    assert Budget("all").count(33) == 33


@pytest.mark.parametrize(
    ("counts", "expected", "why"),
    [
        ([100, 100], ["20", "all"], "20, about a fifth of the 100 labelled images of the median class"),
        ([24] * 81, ["5", "all"], "5, about a fifth of the 24 "),  # not 2, which nobody has
        ([500, 80, 90], ["10", "all"], "10, about a fifth of the 90 "),
        ([3, 60, 70], ["20%", "all"], "20% of each class, as the smallest has only 3 where the median class has 60"),
        ([4, 9], ["all"], "all labels, as a fifth of the 4 labelled images of the median class would be fewer than 5"),
        ([5000], ["1000", "all"], "1,000, about a fifth of the 5,000 labelled images, where"),
        ([0, 12], ["5", "all"], "5, about a fifth of the 12 "),
    ],
)
def test_derived_budgets_are_where_labels_are_and_say_why(counts, expected, why):
    assert [b.name for b in auto_budgets(counts)] == expected
    assert auto_budgets_text(counts).startswith(f"budgets: {why}")


@given(counts=st.lists(st.integers(1, 100_000), min_size=1, max_size=5))
def test_derived_budgets_can_be_met_and_the_smaller_is_at_most_half(counts):
    budgets = auto_budgets(counts)
    assert budgets[-1] == Budget("all") and all(b.count(n) <= n for b in budgets for n in counts)
    if len(budgets) == 2:
        median = sorted(counts)[(len(counts) - 1) // 2]
        assert min(5, median * 0.08) <= budgets[0].count(median) <= median / 2


def test_no_labels_no_budgets():
    with pytest.raises(WhymaskError, match="no labelled images"):
        auto_budgets([0, 0])


# ------------------------------------------------------------------------------------- label subsets

LABELS = np.array([i % 3 if i % 5 else -1 for i in range(90)])
ROWS = np.flatnonzero(np.arange(90) % 7 != 0)


@given(a=budgets, b=budgets, seed=seeds)
def test_subsets_are_nested_stratified_and_of_the_rows(a, b, seed):
    small, large = (Classification().draw(LABELS, ROWS, budget, seed) for budget in (a, b))
    for budget, subset in ((a, small), (b, large)):
        assert np.isin(subset, ROWS).all() and len(set(subset)) == len(subset)
        assert (np.diff(subset) > 0).all()
        for c in range(3):
            assert (LABELS[subset] == c).sum() == budget.count((LABELS[ROWS] == c).sum()) > 0
        assert (LABELS[subset] >= 0).all()
    for c in range(3):
        of_class = [set(s[LABELS[s] == c]) for s in (small, large)]
        assert of_class[0] <= of_class[1] or of_class[1] <= of_class[0]


@given(seed=seeds, shuffle=seeds)
def test_a_subset_depends_on_the_seed_not_on_the_order_of_rows(seed, shuffle):
    rows = np.random.default_rng(shuffle).permutation(ROWS)
    ten = Budget("count", 10)
    subset = Classification().draw(LABELS, ROWS, ten, seed)
    np.testing.assert_array_equal(subset, Classification().draw(LABELS, rows, ten, seed))
    assert not np.array_equal(subset, Classification().draw(LABELS, ROWS, ten, seed + 1))


def test_a_budget_larger_than_a_class_lists_the_counts():
    labels = np.array([0] * 5 + [1] * 8)
    with pytest.raises(WhymaskError, match=r"budget 6 .* ants: 5, bees: 8"):
        Classification(("ants", "bees")).draw(labels, np.arange(13), Budget("count", 6), 0)
    with pytest.raises(WhymaskError, match="class 0: 5, class 1: 8"):
        Classification().draw(labels, np.arange(13), Budget("count", 6), 0)
    assert len(Classification().draw(labels, np.arange(13), Budget("count", 5), 0)) == 10


# ------------------------------------------------------------------------------------------ hold out


@given(seed=seeds, per_class=st.integers(2, 15))
def test_hold_out_divides_the_rows_class_by_class(seed, per_class):
    rows = Classification().draw(LABELS, ROWS, Budget("count", per_class), seed)
    train, held = hold_out(LABELS, rows, None, seed)
    assert sorted([*train, *held]) == rows.tolist()
    expected = max(1, int(0.2 * per_class + 0.5))
    assert np.bincount(LABELS[held], minlength=3).tolist() == [expected] * 3


@settings(max_examples=50)
@given(seed=seeds)
def test_hold_out_keeps_groups_whole_and_depends_on_the_seed(seed):
    groups = (np.arange(90) // 6).astype(str)
    rows = ROWS[LABELS[ROWS] >= 0]
    train, held = hold_out(LABELS, rows, groups, seed)
    assert sorted([*train, *held]) == rows.tolist()
    assert not np.isin(groups[train], groups[held]).any()
    assert set(LABELS[held]) == set(LABELS[train]) == {0, 1, 2}
    assert 0.1 < len(held) / len(rows) < 0.35
    np.testing.assert_array_equal(held, hold_out(LABELS, rows, groups, seed)[1])


def test_hold_out_depends_on_the_seed():
    rows = ROWS[LABELS[ROWS] >= 0]
    assert not np.array_equal(hold_out(LABELS, rows, None, 0)[1], hold_out(LABELS, rows, None, 1)[1])
