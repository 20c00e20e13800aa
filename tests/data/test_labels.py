"""What the labels of each kind of source are taken for: classes, several classes, or numbers."""

import hashlib
import io
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from whymask.data import splits
from whymask.data.batches import Batches, in_order
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings, LabelSettings
from whymask.data.source import Source
from whymask.data.sources import DERIVED, merge, open_source
from whymask.data.store import ImageSet, _fingerprint
from whymask.errors import WhymaskError
from whymask.tasks import Classification, Multilabel, Regression, Task

IMAGES = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
CHESTS = (np.arange(40)[:, None] % [2, 3, 5] == 0).astype(np.uint8)
AGES = np.linspace(20, 80, 40)
CLASSIFICATION, REGRESSION = LabelSettings("classification"), LabelSettings("regression")


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def csv(tmp_path: Path, text: str, labels: LabelSettings | None = DERIVED) -> Source:
    (tmp_path / "list.csv").write_text(text)
    for line in text.splitlines()[1:]:
        (tmp_path / line.partition(",")[0]).touch()
    return open_source(tmp_path / "list.csv", labels=labels)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(tmp_path: Path, labels: LabelSettings | None = DERIVED, **columns: list) -> Source:
    count = len(next(iter(columns.values())))
    datasets.Dataset.from_dict({"image": [png()] * count, **columns}).to_parquet(tmp_path / "x.parquet")
    return open_source(tmp_path / "x.parquet", labels=labels)


# CSV


def test_csv_of_several_classes_an_image(tmp_path):
    source = csv(tmp_path, "path,label\n1.png,cat|dog\n2.png,\n3.png,dog\n4.png,|\n")
    assert source.task == Multilabel(("cat", "dog"))
    assert source.labels.tolist() == [[1, 1], [-1, -1], [0, 1], [0, 0]]
    assert source.labelled.tolist() == [True, False, True, True] and source.classes == ("cat", "dog")


def test_csv_with_another_separator_or_a_name_that_holds_the_usual_one(tmp_path):
    text = "path,label\n1.png,cat;dog\n2.png,a|b\n"
    assert csv(tmp_path, text, LabelSettings(label_separator=";")).classes == ("a|b", "cat", "dog")
    assert csv(tmp_path, text, CLASSIFICATION).classes == ("a|b", "cat;dog")


def test_csv_columns_of_zeros_and_ones(tmp_path):
    text = "path,cat,dog,site\n1.png,1,0,x\n2.png,,,y\n3.png,0,0,x\n4.png,True,false,z\n"
    source = csv(tmp_path, text, LabelSettings(label_columns=("cat", "dog")))
    assert source.task == Multilabel(("cat", "dog")) and list(source.columns) == ["site"]
    assert source.labels.tolist() == [[1, 0], [-1, -1], [0, 0], [1, 0]]


def test_csv_of_one_or_several_targets(tmp_path):
    source = csv(tmp_path, "path,Target,age\n1.png,1.5,3\n2.png,,4\n3.png,-2,5\n4.png,7e1,6\n")
    assert source.task == Regression(("Target",)) and list(source.columns) == ["age"]
    assert source.labels[[0, 2, 3], 0].tolist() == [1.5, -2.0, 70.0]
    assert source.labelled.tolist() == [True, False, True, True]
    both = csv(tmp_path, "path,age,weight\n1.png,31,70.5\n2.png,45,\n3.png,,\n", None)
    assert not both.labelled.any()
    text = "path,age,weight\n1.png,31,70.5\n2.png,,\n"
    both = csv(tmp_path, text, LabelSettings("regression", label_columns=("age", "weight")))
    assert both.task == Regression(("age", "weight")) and both.labels[0].tolist() == [31, 70.5]


def test_a_label_is_the_target_of_a_regression_where_there_is_no_other(tmp_path):
    assert csv(tmp_path, "path,label\n1.png,3\n2.png,4\n", REGRESSION).labels.tolist() == [[3.0], [4.0]]
    both = csv(tmp_path, "path,label,target\n1.png,cat,3\n2.png,dog,4\n", REGRESSION)
    assert both.labels.tolist() == [[3.0], [4.0]] and both.columns["label"].tolist() == ["cat", "dog"]
    assert csv(tmp_path, "path,label,target\n1.png,cat,3\n2.png,dog,4\n").task == Classification(("cat", "dog"))


def test_a_target_that_is_no_number_is_a_class_which_is_said(tmp_path):
    text = "path,target\n1.png,left\n2.png,right\n"
    source = csv(tmp_path, text)
    assert source.task == csv(tmp_path, text, CLASSIFICATION).task == Classification(("left", "right"))
    assert "the column target is read as the labels" in source.notes


@pytest.mark.parametrize(
    "text",
    ["path,label\n1.png,0.5\n2.png,1.25\n", "path,label\n1.png,3\n2.png,4.5\n", "path,target\n1.png,0\n2.png,1\n"],
)
def test_numbers_that_may_be_classes_or_amounts_are_asked_about(tmp_path, text):
    with pytest.raises(WhymaskError, match=r"the column \w+ holds numbers.*--task classification.*--task regression"):
        csv(tmp_path, text)
    assert len(csv(tmp_path, text, CLASSIFICATION).classes) == 2
    assert csv(tmp_path, text, REGRESSION).task.name == "regression"
    assert csv(tmp_path, text, None).labelled.sum() == 0, "nothing is asked where labels do not matter"


def test_whole_numbers_and_names_stay_classes(tmp_path):
    assert csv(tmp_path, "path,label\n1.png,7\n2.png,10\n").task == Classification(("7", "10"))
    assert csv(tmp_path, "path,label\n1.png,1.0\n2.png,2.0\n").task == Classification(("1.0", "2.0"))
    assert csv(tmp_path, "path,label\n1.png,v0.5\n2.png,0.5\n").task == Classification(("0.5", "v0.5"))


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        (
            "path,cat\n1.png,1\n",
            LabelSettings(label_columns=("cat", "cow")),
            "label columns cow .* there are cat; choose",
        ),
        ("path,a,b\n1.png,1,x\n", LabelSettings(label_columns=("a", "b")), "label column b holds no numbers"),
        ("path,a,b\n1.png,1,2\n", LabelSettings(label_columns=("a", "b")), "not 0 or 1.*--task regression"),
        ("path,a,b\n1.png,1,2\n", LabelSettings("multilabel", label_columns=("a", "b")), "labels hold 2"),
        ("path,label\n1.png,cat\n", REGRESSION, "no numbers.*cat.*--task classification"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path, text, labels, message):
    with pytest.raises(WhymaskError, match=message):
        csv(tmp_path, text, labels)


def test_folders_are_classes_whatever_their_names(tmp_path):
    for name in ("1.5", "2.25", "a|b"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "x.png")
    assert open_source(tmp_path).task == Classification(("1.5", "2.25", "a|b"))


def test_folders_of_numbers_may_be_targets(tmp_path):
    for name in ("20", "31"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "x.png")
    assert open_source(tmp_path, labels=REGRESSION).labels.tolist() == [[20.0], [31.0]]


# parquet


def test_parquet_of_lists_of_class_numbers(tmp_path):
    names = datasets.ClassLabel(names=["rat", "bat", "cat"])
    kinds = datasets.Features({"image": datasets.Image(), "labels": datasets.Sequence(names)})
    cells = {"image": [{"bytes": png(), "path": None}] * 4, "labels": [[0, 2], [2], [], None]}
    datasets.Dataset.from_dict(cells, kinds).to_parquet(tmp_path / "x.parquet")
    source = open_source(tmp_path)
    assert source.task == Multilabel(("rat", "cat")) and source.columns == {}
    assert source.labels.tolist() == [[1, 1], [0, 1], [0, 0], [-1, -1]]


def test_parquet_of_lists_of_names(tmp_path):
    source = parquet(tmp_path, label=[["cat", "dog"], ["dog"], []])
    assert source.task == Multilabel(("cat", "dog")) and source.labels.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_parquet_of_lists_of_zeros_and_ones(tmp_path):
    source = parquet(tmp_path, label=[[0, 0, 1], None, [1, 0, 1]])
    assert source.task == Multilabel(("0", "1", "2"))
    assert source.labels.tolist() == [[0, 0, 1], [-1, -1, -1], [1, 0, 1]]
    assert parquet(tmp_path, label=[[0, 1], [1]]).labels.tolist() == [[1, 1], [0, 1]], "numbers of classes"


def test_parquet_of_targets_and_of_columns(tmp_path):
    assert parquet(tmp_path, target=[1.5, None, 3.0, 4.0]).task == Regression(("target",))
    assert parquet(tmp_path, target=[[1.5, 2.0], [3.0, 4.0]]).task == Regression(("target 0", "target 1"))
    columns = LabelSettings(label_columns=("cat", "dog"))
    source = parquet(tmp_path, columns, cat=[1, 0], dog=[True, False], site=["x", "y"])
    assert source.task == Multilabel(("cat", "dog")) and source.labels.tolist() == [[1, 1], [0, 0]]
    assert list(source.columns) == ["site"]
    with pytest.raises(WhymaskError, match="--task regression"):
        parquet(tmp_path, label=[0.5, 1.5])


# arrays


def test_arrays_as_medmnist_has_them():
    arrays = {
        f"{split}_{kind}": a for split in ("train", "test") for kind, a in (("images", IMAGES), ("labels", CHESTS))
    }
    source = open_source(arrays)
    assert source.task == Multilabel(("0", "1", "2")) and source.splits is not None
    assert source.labels.tolist() == np.concatenate([CHESTS, CHESTS]).tolist()


def test_a_split_without_labels_is_unlabelled():
    source = open_source({"x_train": IMAGES, "y_train": CHESTS, "x_test": IMAGES})
    assert source.labelled.tolist() == [True] * 40 + [False] * 40
    numbers = open_source({"x_train": IMAGES, "target_train": AGES, "x_test": IMAGES})
    assert numbers.task == Regression(("target",)) and numbers.labelled.sum() == 40


def test_arrays_of_numbers_and_lists():
    with pytest.raises(WhymaskError, match=r"--task classification.*--task regression"):
        open_source((IMAGES, AGES))
    assert open_source((IMAGES, AGES), labels=REGRESSION).labels[:, 0].tolist() == AGES.tolist()
    assert open_source((IMAGES, CHESTS * 0.5), labels=REGRESSION).task == Regression(("label 0", "label 1", "label 2"))
    lists = [["cat", "dog"], []] + [["dog"]] * 38
    source = open_source((IMAGES, lists))
    assert source.task == Multilabel(("cat", "dog")) and source.labels[:2].tolist() == [[1, 1], [0, 0]]
    assert source.stamp == open_source((IMAGES, [list(value) for value in lists])).stamp
    assert source.stamp != open_source((IMAGES, [["eel"], *lists[1:]])).stamp
    pairs = open_source((IMAGES, [["cat", "dog"]] * 40))
    assert pairs.task == Multilabel(("cat", "dog"))


def test_arrays_by_name():
    arrays = {"images": IMAGES, "age": AGES, "weight": AGES * 2, "site": np.arange(40)}
    source = open_source(arrays, labels=LabelSettings("regression", label_columns=("age", "weight")))
    assert source.task == Regression(("age", "weight")) and list(source.columns) == ["site"]
    assert open_source({"images": IMAGES, "target": AGES}).labels.shape == (40, 1)


def test_arrays_that_do_not_fit():
    with pytest.raises(WhymaskError, match="40 images and labels of shape"):
        open_source((IMAGES, CHESTS[:30]))
    with pytest.raises(WhymaskError, match=r"\(N, L\), with one L"):
        open_source({"x_train": IMAGES, "y_train": CHESTS, "x_test": IMAGES, "y_test": CHESTS[:, :2]})


# further on


@pytest.mark.parametrize(
    ("labels", "settings"), [(CHESTS, LabelSettings()), (AGES, REGRESSION)], ids=["multilabel", "regression"]
)
def test_merge_keeps_the_task_of_the_labelled(labels, settings):
    pool = open_source(255 - IMAGES, labels=None)
    both = merge(pool, open_source((IMAGES, labels), labels=settings))
    assert both.task.name != "classification" and both.labelled.tolist() == [False] * 40 + [True] * 40
    assert np.array_equal(both.labels[40:].ravel(), labels.ravel())


def test_a_pool_s_own_labels_are_not_asked_about(tmp_path):
    for number in range(20):
        Image.fromarray(IMAGES[number]).save(tmp_path / f"{number}.png")
    (tmp_path / "pool.csv").write_text("path,label\n" + "".join(f"{n}.png,{n / 8}\n" for n in range(20)))
    (tmp_path / "few.csv").write_text("path,label\n" + "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(20)))
    settings = DataSettings(labels=str(tmp_path / "few.csv"), store=tmp_path / "store")
    assert prepare(tmp_path / "pool.csv", settings).task == Classification(("a", "b"))


@pytest.mark.parametrize(
    ("labels", "settings", "shape", "kind"),
    [(CHESTS, LabelSettings(), (8, 3), "torch.int64"), (AGES, REGRESSION, (8, 1), "torch.float32")],
    ids=["multilabel", "regression"],
)
def test_from_arrays_to_batches(tmp_path, labels, settings, shape, kind):
    said: list[str] = []
    config = DataSettings(task=settings.task, store=tmp_path)
    prepared = prepare((IMAGES, labels), config, say=said.append)
    assert any(line.startswith(f"40 of them labelled, 0 unlabelled: {prepared.task.text()}") for line in said)
    assert sorted([*prepared.train, *prepared.test]) == list(range(40)) and len(prepared.test) == 20
    images = prepared.images
    batch = Batches(images, prepared.train, batch_size=8, seed=0, augment=None)(0)
    assert tuple(batch.labels.shape) == shape and str(batch.labels.dtype) == kind
    assert np.allclose(batch.labels.numpy(), images.labels[batch.rows])
    assert sum(len(part.labels) for part in in_order(images, prepared.test, 8)) == len(prepared.test)
    about = prepared.describe()
    assert about["task"] == prepared.task.name and about["labelled"] == 40
    assert prepared.stock == [len(prepared.train)] and len(about["test_counts"]) == len(prepared.classes)
    assert ("targets" in about) == (prepared.task.name == "regression")


def image_set(labels: np.ndarray, task: type[Task], hashes: np.ndarray | None = None) -> ImageSet:
    """Images whose pixels do not matter."""
    hashes = np.array([f"{i:032d}" for i in range(len(labels))], "S32") if hashes is None else hashes
    names = tuple(f"name {i}" for i in range(1 if labels.ndim == 1 else labels.shape[1]))
    return ImageSet(
        images=np.zeros((len(labels), 2, 2, 1), np.uint8),
        keys=[str(i) for i in range(len(labels))],
        labels=labels,
        task=task(names),
        splits=None,
        tags=None,
        columns={},
        hashes=hashes,
        skipped=[],
        fingerprint=_fingerprint(hashes, labels),
        preprocessing=None,  # type: ignore[arg-type]
        path=Path(),
        nbytes=0,
    )


def several(images: int = 400) -> np.ndarray:
    """Labels (N, 4) of which the last is rare, and images without."""
    generator = np.random.default_rng(1)
    labels = (generator.random((images, 4)) < [0.5, 0.3, 0.2, 0.03]).astype(np.int64)
    labels[generator.random(images) < 0.2] = -1
    return labels


def amounts(images: int = 400) -> np.ndarray:
    generator = np.random.default_rng(2)
    values = generator.gamma(2, size=(images, 1))
    values[generator.random(images) < 0.2] = np.nan
    return values


BOTH = pytest.mark.parametrize(("labels", "task"), [(several(), Multilabel), (amounts(), Regression)])


@BOTH
def test_the_test_share_is_labelled_and_does_not_depend_on_the_order_of_files(labels, task):
    images = image_set(labels, task)
    test = splits.test_rows(images, None)
    assert not test[~images.labelled].any() and test.sum() == pytest.approx(0.2 * images.labelled.sum(), rel=0.1)
    order = np.random.default_rng(3).permutation(len(labels))
    moved = image_set(labels[order], task, images.hashes[order])
    assert moved.fingerprint == images.fingerprint
    assert np.array_equal(splits.test_rows(moved, None), test[order])


@BOTH
def test_another_label_is_another_fingerprint(labels, task):
    images, other = image_set(labels, task), labels.copy()
    row = np.flatnonzero(images.labelled)[0]
    other[row] = 1 - other[row]
    assert image_set(other, task).fingerprint != images.fingerprint


def test_each_class_has_its_share_of_the_test_images():
    labels = several()
    test = splits.test_rows(image_set(labels, Multilabel), None)
    known = labels[:, 0] >= 0
    for column in labels.T:
        share = (column[test] == 1).sum() / (column[known] == 1).sum()
        assert share == pytest.approx(0.2, abs=0.06)


def test_small_and_large_targets_have_their_share_of_the_test_images():
    labels = amounts()
    test = splits.test_rows(image_set(labels, Regression), None)
    known = ~np.isnan(labels[:, 0])
    edges = np.quantile(labels[known, 0], [0.2, 0.4, 0.6, 0.8])
    counts, everything = (np.bincount(np.searchsorted(edges, labels[rows, 0], side="right")) for rows in (test, known))
    assert counts / everything == pytest.approx(np.full(5, 0.2), abs=0.02)


@BOTH
def test_groups_stay_whole(labels, task):
    images = image_set(labels, task)
    groups = np.random.default_rng(4).integers(60, size=len(labels)).astype(str)
    test = splits.test_rows(images, groups)
    assert 0.1 < test.sum() / images.labelled.sum() < 0.3
    assert not np.isin(groups[test], groups[images.labelled & ~test]).any()
    rows = np.flatnonzero(images.labelled & ~test)
    train, held = splits.hold_out(labels, rows, groups, 0, task=images.task)
    assert sorted([*train, *held]) == rows.tolist() and not np.isin(groups[train], groups[held]).any()
    assert 0.1 < len(held) / len(rows) < 0.3


def test_few_groups_of_one_target_each_can_still_be_divided():
    """Five patients, each with one age: a stratum an age could give none away."""
    labels, groups = np.repeat([20.0, 30, 40, 50, 60], 10)[:, None], np.repeat(list("abcde"), 10)
    test = splits.test_rows(image_set(labels, Regression), groups)
    assert test.sum() == 10


def test_a_classification_is_divided_as_it_was_before_there_were_other_tasks():
    """Fingerprint, test images and held-out images, as computed by the first version of this package."""
    generator = np.random.default_rng(5)
    labels = generator.choice([-1, 0, 1, 2, 3], 300, p=[0.2, 0.4, 0.25, 0.1, 0.05])
    hashes = np.array([f"{h:032d}" for h in generator.integers(250, size=300)], "S32")
    images = image_set(labels, Classification, hashes)
    groups = generator.integers(60, size=300).astype(str)
    rows = np.flatnonzero(labels >= 0)

    def digest(*arrays: np.ndarray) -> str:
        return hashlib.blake2b(b"".join(a.astype("<i8").tobytes() for a in arrays), digest_size=8).hexdigest()

    assert images.fingerprint == "1a89336388a0d31bcf39a65735c503df"
    assert digest(splits.test_rows(images, None)) == "85eab231864a385e"
    assert digest(splits.test_rows(images, groups)) == "95a95fb16c723c86"
    assert (
        digest(*splits.hold_out(labels, rows, None, 3), *splits.hold_out(labels, rows, groups, 3)) == "2c8b4f26a7220b7f"
    )
