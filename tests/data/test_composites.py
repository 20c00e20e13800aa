"""Composites: pictures of paired classes one above the other, each of which tells the class, and can be missing."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tiny import tiny_settings
from whymask import study
from whymask.data.composite_settings import Composites, parse_composites
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings, check_there
from whymask.data.source import Source
from whymask.data.sources import open_source
from whymask.errors import WhymaskError
from whymask.tasks import Classification
from whymask.tasks.bootstrap import bootstrap_images
from whymask.tasks.weighted import WORST

SIDE = 8


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of plain colours: a.npz of three classes without a test split, b.npz of two with one. A picture's red
    is its class, its green its source, its blue 1 in the test split."""
    root = tmp_path_factory.mktemp("parts")
    images = np.zeros((30, SIDE, SIDE, 3), np.uint8)
    images[..., 0] = np.arange(30)[:, None, None] % 3
    np.savez(root / "a.npz", images=images, labels=np.arange(30) % 3)
    other = np.zeros((40, SIDE, SIDE, 3), np.uint8)
    other[..., 0], other[..., 1] = np.arange(40)[:, None, None] % 2, 100
    split = {"x_train": other[:30], "y_train": np.arange(30) % 2, "x_test": other[30:] + np.array([0, 0, 1], np.uint8)}
    np.savez(root / "b.npz", **split, y_test=np.arange(30, 40) % 2)
    return root


def opened(parts: Path, settings: str = "") -> Source:
    sizes = f"unlabelled=20,train=10,test=12,side={SIDE}{settings}"
    return open_source(f"composites:A={parts / 'a.npz'},B={parts / 'b.npz'},{sizes}")


def test_every_part_tells_the_class_and_test_images_lack_one(parts: Path) -> None:
    source = opened(parts)
    assert source.classes == ("0 + 0", "1 + 1") and len(source) == 42
    assert source.labels.tolist() == [-1] * 20 + [0, 1] * 5 + [0, 1] * 6
    assert source.splits is not None and source.tags is not None
    assert source.splits.tolist() == ["train"] * 30 + ["test"] * 12
    assert source.tags.tolist() == [""] * 30 + ["both"] * 4 + ["A"] * 4 + ["B"] * 4
    for i in range(len(source)):
        image = source.read(i)
        assert isinstance(image, np.ndarray) and image.shape == (2 * SIDE, SIDE, 3) and image.dtype == np.uint8
        label, is_test = i % 2, source.splits[i] == "test"
        for part, square in (("A", image[:SIDE]), ("B", image[SIDE:])):
            if source.tags[i] in ("", "both", part):
                assert (square[..., 0] == label).all()
                assert part == "A" or (square[..., 2] == is_test).all()
            else:
                assert np.unique(square).size > 50  # noise


def test_test_images_are_made_of_pictures_that_no_training_image_has(parts: Path) -> None:
    """Of a source without a test split a fifth of each class is set aside."""
    numbered = np.arange(60, dtype=np.uint8)[:, None, None] * np.ones((60, SIDE, SIDE), np.uint8)
    np.savez(parts / "c.npz", images=numbered, labels=np.arange(60) % 2)
    source = open_source(f"composites:A={parts / 'c.npz'},B={parts / 'c.npz'},train=400,test=300,side={SIDE}")
    assert source.splits is not None and source.tags is not None
    seen: dict[str, set[int]] = {"train": set(), "test": set()}
    for i in range(0, len(source), 7):
        if source.tags[i] in ("", "both"):
            seen[str(source.splits[i])] |= {int(np.asarray(source.read(i))[0, 0, 0])}
    assert len(seen["train"]) > 20 and 5 < len(seen["test"]) <= 12 and not seen["train"] & seen["test"]


def test_a_share_of_training_images_may_show_one_part(parts: Path) -> None:
    source = opened(parts, ",single=1")
    plain = [[np.ptp(half[..., 0]) == 0 for half in np.split(np.asarray(source.read(i)), 2)] for i in range(30)]
    assert all(sum(halves) == 1 for halves in plain) and len({tuple(map(bool, halves)) for halves in plain}) == 2


def test_equal_settings_give_equal_images_and_others_another_store(parts: Path) -> None:
    source, again, other = opened(parts), opened(parts), opened(parts, ",seed=1")
    assert all(np.array_equal(source.read(i), again.read(i)) for i in (3, 25, 40))
    assert source.stamp == again.stamp != other.stamp


def test_any_number_of_parts_of_any_source(parts: Path) -> None:
    text = f"composites:A={parts / 'a.npz'},Low={parts / 'b.npz'},C=glyphs:train=10,unlabelled=0,train=4,test=8,side=8"
    with pytest.raises(WhymaskError, match="unlabelled"):  # a comma ends the source of a part: glyphs need none
        open_source(text.replace("unlabelled=0", "unlabelled=none"))
    source = open_source(f"composites:A={parts / 'a.npz'},Low={parts / 'b.npz'},C=glyphs,train=4,test=8,side=8")
    assert np.asarray(source.read(len(source) - 1)).shape == (24, 8, 3)
    assert source.tags is not None and sorted(set(source.tags)) == ["", "A", "C", "Low", "both"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("composites:A=x", "expected at least two"),
        ("composites:A=x,a=y", "expected composites:A=PHOTOS"),
        ("composites:A=x,A=y", "the part A is there twice"),
        ("composites:A=x,B=y,train=many", "expected a whole number"),
        ("composites:A=x,B=y,single=2", "expected a share"),
        ("composites:A=x,B=y,classes=1", "expected at least 2"),
    ],
)
def test_what_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        parse_composites(text)


def test_what_does_not_fit_is_said_with_the_part(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match="classes=3; part B has 2"):
        opened(parts, ",classes=3")
    np.savez(tmp_path / "none.npz", images=np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(WhymaskError, match=r"part B, .*none\.npz, has not one class an image"):
        open_source(f"composites:A={parts / 'a.npz'},B={tmp_path / 'none.npz'}")
    np.savez(tmp_path / "one.npz", images=np.zeros((3, 8, 8), np.uint8), labels=[0, 1, 1])
    with pytest.raises(WhymaskError, match="has no picture of '0' to train on"):
        open_source(f"composites:A={parts / 'a.npz'},B={tmp_path / 'one.npz'}")
    with pytest.raises(WhymaskError, match=r"no-such-folder: no such file or folder"):
        check_there(f"composites:A={parts / 'a.npz'},B={tmp_path / 'no-such-folder'}")
    assert Composites((("A", "x"), ("B", "y"))).single == 0


# the view that is neglected ------------------------------------------------------------------------------------


def test_the_worst_view_is_the_least_of_them_and_its_interval_that_of_resampled_images() -> None:
    task, random = Classification(("x", "y")), np.random.default_rng(0)
    labels, tags = random.integers(2, size=90), np.repeat(["both", "A", "B"], 30)
    arms = [np.log(np.full((90, 2), 0.1) + 0.8 * np.eye(2)[np.where(random.random(90) < p, labels, 1 - labels)])
            for p in (0.9, 0.6)]  # fmt: skip
    for predictions in arms:
        metrics = task.metrics(predictions, labels, tags)
        assert metrics[WORST] == min(metrics["accuracy/A"], metrics["accuracy/B"])
    low, high = bootstrap_images(task, {0: arms[0]}, {0: arms[1]}, labels, tags=tags, resamples=400)[WORST]
    right = [predictions.argmax(axis=1) == labels for predictions in arms]

    def worst(hits: np.ndarray, rows: np.ndarray) -> float:
        return min(float(hits[rows][tags[rows] == tag].mean()) for tag in ("A", "B"))

    drawn = random.integers(90, size=(400, 90))
    by_hand = [worst(right[0], rows) - worst(right[1], rows) for rows in drawn]
    assert np.allclose([low, high], np.quantile(by_hand, [0.025, 0.975]), atol=0.06)
    assert WORST not in task.metrics(arms[0], labels, np.where(tags == "both", "multi_view", "single_view"))
    assert task.describe(WORST).title == "worst-view accuracy"


def test_it_is_the_verdicts_metric_of_a_study_of_composites(parts: Path, tmp_path: Path) -> None:
    sizes = f"unlabelled=32,train=20,test=30,side={SIDE}"
    settings = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), scratch_long="none")
    text = f"composites:A={parts / 'a.npz'},B={parts / 'b.npz'},{sizes}"
    table = study(text, out=tmp_path / "study", settings=settings, explain=False)
    assert table["verdict"]["metric"] == WORST and {"accuracy/both", "accuracy/A"} <= set(table["cells"][0]["metrics"])
    prepared = prepare(text, DataSettings(), multiple_of=4)
    assert prepared.images.preprocessing.size == (2 * SIDE, SIDE) and len(prepared.pool) == 52


# files in the form of MNIST ------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def test_files_in_the_form_of_mnist_are_read(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(256, size=(7, 6, 5), dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:4])))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([3, 1, 3, 1]))))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images[4:]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([1, 3, 1])))
    source = open_source(tmp_path)
    assert source.splits is not None and source.splits.tolist() == ["train"] * 4 + ["test"] * 3
    assert source.classes == ("1", "3") and source.labels.tolist() == [1, 0, 1, 0, 0, 1, 0]
    assert all(np.array_equal(source.read(i), images[i]) for i in range(7))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images[4:])[:-9])
    with pytest.raises(WhymaskError, match="no whole file in the form of MNIST"):
        open_source(tmp_path)
