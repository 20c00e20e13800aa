"""Every kind of source: keys, labels, splits, stamps, and the errors for what is none."""

import io
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from huggingface_hub import HfApi, constants
from PIL import Image

from whymask.data.settings import LabelSettings
from whymask.data.source import Source, split_column
from whymask.data.sources import merge, open_source
from whymask.errors import WhymaskError
from whymask.tasks import Classification, RawLabels

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg"


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def picture(value: int, size: tuple[int, int] = (6, 5)) -> Image.Image:
    return Image.new("RGB", size, (value, 2 * value % 256, 7))


def write(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(value).save(path)
    return path


def red(source: Source, row: int) -> int:
    return int(np.asarray(source.read(row))[0, 0, 0])


def class_names(source: Source) -> list[str]:
    return [source.classes[label] if label >= 0 else "" for label in source.labels]


# Folders


def test_folder_with_images_directly_in_it_is_unlabelled(tmp_path):
    write(tmp_path / "b.png", 2), write(tmp_path / "a.jpg", 1), write(tmp_path / "deep" / "er" / "c.png", 3)
    (tmp_path / "notes.txt").write_text("no image")
    write(tmp_path / ".hidden.png"), write(tmp_path / ".thumbs" / "t.png")
    source = open_source(tmp_path)
    assert source.keys == [str(tmp_path / name) for name in ("a.jpg", "b.png", "deep/er/c.png")]
    assert source.labels.tolist() == [-1, -1, -1] and source.classes == () and source.splits is None
    assert red(source, 1) == 2


@pytest.mark.parametrize("given", ["runs/mine", "runs/mine/figures", "runs"])
def test_a_run_is_no_folder_of_images_though_it_holds_figures(tmp_path, given):
    write(tmp_path / "runs" / "mine" / "figures" / "why-1.png")
    (tmp_path / "runs" / "mine" / "config.json").write_text('{"config": {}, "provenance": {}}')
    with pytest.raises(WhymaskError, match=r"whymask's own runs \(.*mine/config.json is of one\).*give the images"):
        open_source(tmp_path / given)


@pytest.mark.parametrize("form", ["study.json", "config.json"])
def test_a_run_without_a_picture_is_told_from_an_empty_folder(tmp_path, form):
    (tmp_path / form).write_text('{"config": {}, "provenance": {}}')
    with pytest.raises(WhymaskError, match="whymask's own runs"):
        open_source(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[1]", "3", "no json"])
def test_images_beside_another_softwares_config_or_beside_runs_are_images(tmp_path, content):
    write(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "config.json").write_text(content)
    assert len(open_source(tmp_path / "photos")) == 1
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"config": {}, "provenance": {}}')
    assert len(open_source(tmp_path)) == 1


def test_folder_with_one_subfolder_a_class(tmp_path):
    for place in ("cat/x.png", "cat/more/y.png", "ant/z.PNG"):
        write(tmp_path / place)
    source = open_source(str(tmp_path))
    assert source.classes == ("ant", "cat")
    assert class_names(source) == ["ant", "cat", "cat"]


def test_numbered_class_folders_are_in_order_of_number(tmp_path):
    for name in ("10", "9", "0"):
        write(tmp_path / name / "x.png")
    assert open_source(tmp_path).classes == ("0", "9", "10")


def test_folder_with_splits(tmp_path):
    for place in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "val/dog/4.png", "unlabelled/5.png"):
        write(tmp_path / place)
    source = open_source(tmp_path)
    assert source.splits is not None
    found = {Path(k).stem: (s, c) for k, s, c in zip(source.keys, source.splits, class_names(source), strict=True)}
    assert found == {
        "1": ("train", "cat"),
        "2": ("train", "dog"),
        "3": ("test", "cat"),
        "4": ("train", "dog"),
        "5": ("train", ""),
    }


def test_validation_folder_is_the_test_split_where_there_is_no_other(tmp_path):
    write(tmp_path / "train" / "cat" / "1.png"), write(tmp_path / "val" / "cat" / "2.png")
    splits = open_source(tmp_path).splits
    assert splits is not None and splits.tolist() == ["train", "test"]


def test_a_class_may_be_called_train(tmp_path):
    write(tmp_path / "train" / "1.png"), write(tmp_path / "bus" / "2.png")
    source = open_source(tmp_path)
    assert source.classes == ("bus", "train") and source.splits is None


def test_folder_linked_into_itself_is_walked_once(tmp_path):
    write(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_source(tmp_path)) == 1


@pytest.mark.parametrize("files", [[], ["notes.txt", "more.txt"], [".hidden.png"]])
def test_folder_without_images_is_an_error(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("x")
    with pytest.raises(WhymaskError, match=r"no images in this folder.*expected.*--reader"):
        open_source(tmp_path)


def test_missing_path_is_an_error(tmp_path):
    with pytest.raises(WhymaskError, match="no such file or folder"):
        open_source(tmp_path / "nothing")
    (tmp_path / "one.txt").write_text("no image")
    with pytest.raises(WhymaskError, match="no image source"):
        open_source(tmp_path / "one.txt")


# Files named one by one, or by a pattern


@pytest.fixture
def photos(tmp_path):
    for value, name in enumerate(("a.jpg", "b.png", "deep/c.jpg", "deep/er/d.jpg")):
        write(tmp_path / "photos" / name, value)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("a.jpg", ["a.jpg"]),
        ("*.jpg", ["a.jpg"]),
        ("*", ["a.jpg", "b.png", "deep/c.jpg", "deep/er/d.jpg"]),
        ("**/*.jpg", ["a.jpg", "deep/c.jpg", "deep/er/d.jpg"]),
        ("[bz].png", ["b.png"]),
        (["b.png", "a.jpg", "*.jpg"], ["b.png", "a.jpg"]),
        (["deep", "b.png"], ["deep/c.jpg", "deep/er/d.jpg", "b.png"]),
        (["deep"], ["deep/c.jpg", "deep/er/d.jpg"]),
    ],
)
def test_files_patterns_and_lists_of_them_are_unlabelled_images_each_once(photos, given, found):
    entries = [photos / name for name in given] if isinstance(given, list) else str(photos / given)
    source = open_source(entries)
    assert source.keys == [str(photos / name) for name in found]
    assert source.labels.tolist() == [-1] * len(found) and source.splits is None
    assert np.asarray(source.read(0)).shape == (5, 6, 3)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos):
    write(photos / "[ab].jpg"), write(photos / "set[1]" / "e.png")
    assert open_source(photos / "[ab].jpg").keys == [str(photos / "[ab].jpg")]
    assert open_source(photos / "set[1]").keys == [str(photos / "set[1]" / "e.png")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a.jpg", "gone.jpg"], "gone.jpg: no such file; .*check the path"),
        (["a.jpg", "*.tif"], "tif: matches no file; .*pattern such as"),
        ("*.tif", "tif: matches no file"),
        ("*.txt", r"no image \(notes.txt\); files such as .jpg"),
        (["a.jpg", "notes.txt"], r"notes.txt: no image \(notes.txt\).*alone"),
        (["a.jpg", "empty"], "empty: no file in this folder"),
    ],
)
def test_each_entry_without_an_image_is_an_error_that_names_it(photos, given, message):
    (photos / "empty").mkdir()
    (photos / "deep" / "gone").symlink_to(photos / "nowhere")
    with pytest.raises(WhymaskError, match=message):
        open_source([photos / name for name in given] if isinstance(given, list) else str(photos / given))


def test_a_reader_opens_every_file_that_is_named(photos):
    source = open_source(str(photos / "*.txt"), reader=lambda path: np.zeros((4, 4), np.uint8))
    assert source.keys == [str(photos / "notes.txt")] and np.asarray(source.read(0)).shape == (4, 4)
    assert len(open_source(photos / "notes.txt", reader=lambda path: np.zeros((4, 4), np.uint8))) == 1


def test_what_is_named_may_not_be_figures_of_a_run(photos):
    (photos / "deep" / "config.json").write_text('{"config": {}, "provenance": {}}')
    with pytest.raises(WhymaskError, match="whymask's own runs"):
        open_source(str(photos / "deep" / "*.jpg"))
    assert len(open_source(str(photos / "**" / "*.jpg"))) == 3


def test_stamp_changes_with_a_file_and_not_with_the_place(tmp_path):
    file = write(tmp_path / "a" / "x.png", 1)
    stamp = open_source(tmp_path / "a").stamp
    assert open_source(tmp_path / "a").stamp == stamp
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_source(tmp_path / "b").stamp == stamp
    file = tmp_path / "b" / "x.png"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert open_source(tmp_path / "b").stamp != stamp


# Readers


def test_reader_opens_what_pillow_cannot(tmp_path):
    scan = np.arange(24, dtype="<u2").reshape(4, 6)
    scan.tofile(tmp_path / "scan.raw")

    def reader(path):
        return np.fromfile(path, dtype="<u2").reshape(4, 6)

    source = open_source(tmp_path, reader=reader)
    assert np.array_equal(source.read(0), scan)


def test_another_reader_is_another_stamp(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 4)))
    first = open_source(tmp_path, reader=lambda path: np.load(path))
    second = open_source(tmp_path, reader=lambda path: np.load(path) + 1)
    assert first.stamp != second.stamp


# CSV


def csv_source(tmp_path: Path, text: str) -> Source:
    (tmp_path / "list.csv").write_text(text)
    return open_source(tmp_path / "list.csv")


def test_csv_of_paths_labels_splits_and_further_columns(tmp_path):
    for number in range(4):
        write(tmp_path / "images" / f"{number}.png", number)
    source = csv_source(
        tmp_path,
        "Path,label,split,Patient\nimages/0.png,dog,train,p1\nimages/1.png,cat,test,p2\n"
        f"images/2.png,,,p2\n{tmp_path}/images/3.png,cat,val,\n",
    )
    assert source.keys == [str(tmp_path / "images" / f"{number}.png") for number in range(4)]
    assert class_names(source) == ["dog", "cat", "", "cat"] and source.classes == ("cat", "dog")
    assert source.splits is not None and source.splits.tolist() == ["train", "test", "train", "train"]
    assert source.columns["Patient"].tolist() == ["p1", "p2", "p2", ""] and list(source.columns) == ["Patient"]
    assert red(source, 3) == 3


def test_csv_with_a_reader_and_no_labels(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 3), 4.0))
    (tmp_path / "list.csv").write_text("file\nx.npy\n")
    source = open_source(tmp_path / "list.csv", reader=lambda path: np.load(path))
    assert source.labels.tolist() == [-1] and np.asarray(source.read(0)).max() == 4


def test_csv_names_files_as_a_folder_does(tmp_path):
    write(tmp_path / "photos" / "x.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.csv").write_text("path,label\n../photos/x.png,cat\n")
    assert open_source(tmp_path / "lists" / "l.csv").keys == open_source(tmp_path / "photos").keys


def test_csv_naming_a_missing_file_fails_at_that_image_only(tmp_path):
    write(tmp_path / "x.png", 9)
    source = csv_source(tmp_path, "path,label\nx.png,a\ngone.png,b\n")
    assert red(source, 0) == 9
    with pytest.raises(WhymaskError, match="no such file"):
        source.read(1)
    assert source.labelled.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("path,label\n", "0 rows"),
        ("title,label\nx.png,a\n", "columns title, label.*column path"),
        ("path,label\nx.png,a,b\n", "row 2 has not the 2 fields"),
        ("path,label\nx.png,a\nx.png,b\n", "several rows"),
        ("path,split\nx.png,elsewhere\n", "elsewhere"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, message):
    write(tmp_path / "x.png")
    with pytest.raises(WhymaskError, match=message):
        csv_source(tmp_path, text)


# Tables


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    picture(value).save(buffer, "PNG")
    return buffer.getvalue()


def table(values: list[int], labels: list[int | None], **columns: list) -> datasets.Dataset:
    cells = [{"bytes": png(value), "path": f"p{value}/{value}.png"} for value in values]
    names = datasets.ClassLabel(names=["rat", "bat"])
    features = {"image": datasets.Image(), "label": names} | {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict({"image": cells, "label": labels, **columns}, datasets.Features(features))


def test_folder_of_parquet_files(tmp_path):
    table([1, 2, 3], [1, 0, None], part=["a", "b", None]).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    table([4], [1], part=["c"]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    source = open_source(tmp_path)
    assert source.keys[0] == f"{tmp_path}/test-00000-of-00001.parquet#0:p4/4.png"
    assert source.keys[3] == f"{tmp_path}/train-00000-of-00001.parquet#2:p3/3.png"
    assert source.splits is not None and source.splits.tolist() == ["test", "train", "train", "train"]
    assert class_names(source) == ["bat", "bat", "rat", ""] and source.classes == ("rat", "bat")
    assert source.columns["part"].tolist() == ["c", "a", "b", ""]
    assert [red(source, row) for row in range(4)] == [4, 1, 2, 3]


def test_one_parquet_file_with_text_labels_and_plain_bytes(tmp_path):
    path = tmp_path / "odd [name] test.parquet"
    datasets.Dataset.from_dict({"image": [png(5), png(6)], "label": ["x", ""]}).to_parquet(path)
    source = open_source(path)
    assert class_names(source) == ["x", ""] and source.splits is None and red(source, 1) == 6
    assert source.keys[1] == f"{path}#1"


def test_parquet_without_images_is_an_error(tmp_path):
    datasets.Dataset.from_dict({"height": [1.0], "label": [0]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(WhymaskError, match=r"columns height, label.*column image"):
        open_source(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"not parquet")
    with pytest.raises(WhymaskError, match="cannot be read as parquet"):
        open_source(tmp_path)


def test_several_labels_an_image_are_no_classification(tmp_path):
    datasets.Dataset.from_dict({"image": [png(5), png(6)], "label": [[1, 2], [1]]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(WhymaskError, match=r"one class an image was expected.*--task multilabel"):
        open_source(tmp_path, labels=LabelSettings("classification"))


@pytest.mark.parametrize("shuffled", [False, True])
def test_saved_dataset(tmp_path, shuffled):
    one = table([1, 2, 3], [0, 1, 0])
    one = one.select([2, 1, 0]) if shuffled else one
    one.save_to_disk(str(tmp_path / "one"))
    source = open_source(tmp_path / "one")
    assert [red(source, row) for row in range(3)] == ([3, 2, 1] if shuffled else [1, 2, 3])
    assert source.splits is None and source.keys[0].startswith(f"{tmp_path}/one/train#0:")


def test_saved_dataset_with_splits(tmp_path):
    both = datasets.DatasetDict({"train": table([1, 2], [0, 1]), "validation": table([3], [1])})
    both.save_to_disk(str(tmp_path / "both"))
    source = open_source(tmp_path / "both")
    assert source.splits is not None and source.splits.tolist() == ["train", "train", "test"]
    assert len(set(source.keys)) == 3 and class_names(source) == ["rat", "bat", "bat"] and red(source, 2) == 3


def test_hub_id(monkeypatch):
    loaded = datasets.DatasetDict({"train": table([1], [0]), "test": table([2], [-1]), "validation": table([3], [1])})
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, timeout: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: loaded)
    source = open_source("someone/pictures")
    names = ("train#0:p1/1.png", "test#0:p2/2.png", "validation#0:p3/3.png")
    assert source.keys == [f"someone/pictures/{name}" for name in names]
    assert source.splits is not None
    assert source.splits.tolist() == ["train", "train", "test"]  # the test split of the hub has no labels


@pytest.fixture
def without_network(monkeypatch):
    """How often the hub was asked, of which nothing comes."""
    asked = []

    def fail(self, name, timeout):
        asked.append((name, timeout))
        raise ConnectionError("no route")

    monkeypatch.setattr(HfApi, "dataset_info", fail)
    return asked


def test_without_a_network_the_hub_is_asked_once_and_both_possibilities_are_named(without_network):
    with pytest.raises(WhymaskError, match=r"no such file or folder here, and the Hugging Face hub.*no route") as told:
        open_source("someone/pictures")
    assert without_network == [("someone/pictures", 5.0)] and "\n" not in str(told.value)


def test_without_a_network_a_data_set_of_the_cache_is_taken(monkeypatch, without_network):
    def cached(name):
        assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE
        return datasets.DatasetDict({"train": table([1, 2], [0, 1])})

    before = constants.HF_HUB_OFFLINE
    monkeypatch.setattr(datasets, "load_dataset", cached)
    assert len(open_source("someone/pictures")) == 2
    assert not constants.HF_HUB_OFFLINE or before


def test_what_the_hub_answers_is_told(monkeypatch):
    def fail(name):
        raise ValueError("it is gated")

    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, timeout: None)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(WhymaskError, match=r"no such file or folder here, and no data set of that name.*it is gated"):
        open_source("someone/pictures")


def test_a_path_into_a_folder_that_is_here_is_no_id_of_the_hub(monkeypatch, tmp_path, without_network):
    (tmp_path / "photos" / "train").mkdir(parents=True), (tmp_path / "photos" / "test").mkdir()
    monkeypatch.chdir(tmp_path)
    for given in ("photos/trian", "photos/trian/cats"):
        with pytest.raises(WhymaskError, match=r"; photos holds test, train; did you mean photos/train\?$"):
            open_source(given)
    assert not without_network
    with pytest.raises(WhymaskError, match=r"the connection; did you mean photos/train\?$"):
        open_source("photso/train")


@pytest.mark.skipif(not CIFAR.exists(), reason="../shared/data/cifar10-jpeg is not here")
def test_shared_cifar():
    source = open_source(CIFAR)
    assert len(source) == 60_000 and source.splits is not None and (source.splits == "test").sum() == 10_000
    assert np.bincount(source.labels).tolist() == [6_000] * 10
    row = source.keys.index(next(key for key in source.keys if key.endswith("test/truck/0770.jpg")))
    assert source.classes[source.labels[row]] == "truck" and np.asarray(source.read(row)).shape == (32, 32, 3)


# Arrays


IMAGES = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)


@pytest.mark.parametrize("labels", [[1, 0, -1, 1], [1.0, 0.0, np.nan, 1.0], ["b", "a", "", "b"], [[7], [3], [-1], [7]]])
def test_arrays_and_any_form_of_labels(labels):
    source = open_source((IMAGES, np.array(labels)))
    assert source.labels.tolist() == [1, 0, -1, 1] and len(source.classes) == 2
    assert np.array_equal(source.read(2), IMAGES[2])


def test_arrays_alone_and_their_stamp():
    source, same = open_source(IMAGES), open_source(IMAGES.copy())
    changed = IMAGES.copy()
    changed[3, 2, 1] += 1
    other = open_source(changed)
    assert source.labels.tolist() == [-1] * 4
    assert source.stamp == same.stamp != other.stamp
    assert source.keys == same.keys and not set(source.keys) & set(other.keys)


@pytest.mark.parametrize("form", ["x_{}", "{}_images"])
@pytest.mark.parametrize("as_file", [False, True])
def test_named_arrays_with_splits(tmp_path, form, as_file):
    labels = "y_{}" if form.startswith("x") else "{}_labels"
    arrays = {form.format("train"): IMAGES[:3], labels.format("train"): np.array([[0], [1], [1]])}
    arrays |= {form.format("test"): IMAGES[3:], labels.format("test"): np.array([[0]])}
    if as_file:
        np.savez(tmp_path / "data.npz", **arrays)
    source = open_source(tmp_path / "data.npz" if as_file else arrays)
    assert source.splits is not None and source.splits.tolist() == ["train"] * 3 + ["test"]
    assert source.labels.tolist() == [0, 1, 1, 0] and np.array_equal(source.read(3), IMAGES[3])


def test_further_arrays_are_columns(tmp_path):
    source = open_source({"images": IMAGES, "labels": np.array([0, 1, 0, 1]), "patient": np.array([5, 5, 6, 7])})
    assert source.columns["patient"].tolist() == ["5", "5", "6", "7"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES, np.zeros(3, int)), "4 images and labels of shape"),
        ((IMAGES, np.full((4, 2), 7)), "not 0 or 1; one class an image"),
        ((IMAGES, np.array([0.5, 1, 2, 3])), "regression"),
        (np.zeros((5, 3, 32, 32), np.uint8), "moveaxis"),
        (np.zeros((5, 3)), "channels"),
        (np.zeros((0, 8, 8)), "no images"),
        ({"pictures": IMAGES}, "arrays pictures"),
        (np.array(["a", "b"]), "real numbers"),
    ],
)
def test_arrays_that_are_no_images(data, message):
    with pytest.raises(WhymaskError, match=message):
        open_source(data)


def test_glyphs_by_name():
    source = open_source("glyphs:unlabelled=20,train=10,test=10,seed=3")
    assert len(source) == 40 and np.asarray(source.read(0)).shape == (32, 32)
    assert open_source(source) is source
    with pytest.raises(WhymaskError, match="unlabeled"):
        open_source("glyphs:unlabeled=20")


def test_labels_without_any():
    task, labels = Classification.encode(RawLabels([None, "", None]), "x")
    assert labels.tolist() == [-1, -1, -1] and labels.dtype == np.int64 and task.names == ()


def test_split_column_without_both_sides_is_none():
    labelled = np.ones(2, bool)
    assert split_column(["train", "extra"], labelled) == (None, ())
    assert split_column(["test", "test"], labelled) == (None, ())


# merge


def test_merge_lists_an_image_once_and_labelled(tmp_path):
    for place in ("a/1.png", "b/2.png", "sorted/cat/3.png", "sorted/dog/4.png"):
        write(tmp_path / place, int(place[-5]))
    both = merge(open_source(tmp_path), open_source(tmp_path / "sorted"))
    assert [Path(key).name for key in both.keys] == ["1.png", "2.png", "3.png", "4.png"]
    assert class_names(both) == ["", "", "cat", "dog"] and both.classes == ("cat", "dog")
    assert [red(both, row) for row in range(4)] == [1, 2, 3, 4]
    assert both.splits is None


def test_merge_takes_splits_and_columns_of_the_labelled(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png", number)
    write(tmp_path / "pool" / "x.png", 9)
    labelled = csv_source(tmp_path, "path,label,split,part\n0.png,a,train,p\n1.png,b,test,q\n2.png,,,r\n")
    both = merge(open_source(tmp_path / "pool"), labelled)
    assert both.splits is not None and both.splits.tolist() == ["train", "train", "test", "train"]
    assert both.columns["part"].tolist() == ["", "p", "q", "r"]
    assert both.labels.tolist() == [-1, 0, 1, -1]


def test_merge_needs_labels(tmp_path):
    write(tmp_path / "x.png")
    source = open_source(tmp_path)
    with pytest.raises(WhymaskError, match="no labels in it"):
        merge(source, source)
