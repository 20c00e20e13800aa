"""What lies behind addresses: read once, asked for again where the network fails, and gone on with where it stopped."""

import errno
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from packed import IMAGES, pixels, png, samples, write_shards, write_tar
from whymask.data import parquets, pictures, protocols, remote
from whymask.data.derive import derive
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings, check_there
from whymask.data.source import Source
from whymask.data.sources import open_asked
from whymask.data.store import open_images
from whymask.errors import WhymaskError
from whymask.upkeep import needless_in, remove


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for between tries."""
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@dataclass
class Served:
    """A web server: what was asked of it; the paths that fail, and how often yet."""

    address: str
    folder: Path
    asked: Counter[str] = field(default_factory=Counter)
    failing: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "web").mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked[self.path] += 1
            if served.failing.get(self.path, 0) > 0:
                served.failing[self.path] -= 1
                self.send_error(503)
            else:
                super().do_GET()

        def log_message(self, *given: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "web")))
    served = Served(f"http://127.0.0.1:{server.server_port}", tmp_path / "web")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield served
    server.shutdown()
    server.server_close()


def opened(data: str, cache: Path, **asked: Any) -> Source:
    return open_asked(data, DataSettings(store=cache, **asked))


def put(memory: Any, folder: Path, place: str) -> None:
    for path in sorted(folder.iterdir()):
        memory.pipe(f"{place}/{path.name}", path.read_bytes())


def reads_of(memory: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the memory that are opened from now on."""
    found: list[str] = []
    before = type(memory)._open

    def spied(self: Any, path: str, mode: str = "rb", **more: Any) -> Any:
        if mode == "rb":
            found.append(path)
        return before(self, path, mode, **more)

    monkeypatch.setattr(type(memory), "_open", spied)
    return found


# shards


def test_shards_are_fetched_once_and_go_when_the_store_is_there(
    memory: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, write_shards(tmp_path / "shards"), "/test/shards")
    reads = reads_of(memory, monkeypatch)
    for given in (
        "memory://test/shards",
        "memory://test/shards/*.tar",
        "memory://test/shards/train-{000000..000002}.tar",
    ):
        source = opened(given, cache)
        assert np.array_equal(pixels(source), IMAGES) and source.splits is None
        assert source.keys[0] == "memory:///test/shards/train-000000.tar#0000.png"
    config = DataSettings(store=cache, test_share=0.5)
    first = prepare("memory://test/shards", config)
    assert len(reads) == 3 and not list((cache / "fetched").iterdir())
    assert prepare("memory://test/shards", config).identity == first.identity
    assert len(reads) == 3, "what every command looks at was asked for again"
    memory.pipe("/test/shards/train-000001.tar", write_tar(tmp_path / "x", samples(range(3), cls=str)).read_bytes())
    assert len(opened("memory://test/shards", cache)) == 11 and len(reads) == 4


def test_where_the_disk_has_no_room_shards_make_room_for_each_other(
    memory: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, write_shards(tmp_path / "shards", count=3), "/shards")
    reads = reads_of(memory, monkeypatch)
    monkeypatch.setattr(remote, "free_bytes", lambda folder: 0)
    monkeypatch.setattr(remote, "AT_ONCE", 1)
    source = opened("memory://shards", cache)
    assert [path.name for path in (cache / "fetched").glob("*.tar")] and len(
        list((cache / "fetched").glob("*.tar"))
    ) == 1
    images = open_images(source, derive(source), cache)
    assert np.array_equal(images.images, IMAGES) and len(reads) > 3


def test_a_gzip_behind_an_address_and_holes_there(memory: Any, tmp_path: Path, cache: Path) -> None:
    import gzip

    for number in (0, 1, 3):
        tar = write_tar(tmp_path / "x.tar", samples([number], cls=str)).read_bytes()
        memory.pipe(f"/s/train-{number:03d}.tar.gz", gzip.compress(tar))
    assert np.array_equal(pixels(opened("memory://s/train-{000..001}.tar.gz", cache)), IMAGES[:2])
    with pytest.raises(WhymaskError, match=r"1 of its 4 files are not there: memory://s/train-002\.tar\.gz"):
        opened("memory://s/train-{000..003}.tar.gz", cache)
    for given in ("memory://s", "memory://s/*.tar.gz"):
        with pytest.raises(WhymaskError, match=r"leave out memory:///s/train-002\.tar\.gz"):
            opened(given, cache)


class Broken:
    """A file that breaks off after so many bytes."""

    def __init__(self, file: Any, after: int):
        self.file, self.after = file, after

    def __enter__(self) -> "Broken":
        return self

    def __exit__(self, *given: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int = -1) -> bytes:
        if self.file.tell() >= self.after:
            raise ConnectionResetError("cable pulled")
        return self.file.read(min(size, self.after - self.file.tell()))


def test_a_fetch_that_breaks_off_goes_on_where_it_was(
    memory: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, write_shards(tmp_path / "shards", count=1), "/shards")
    before, starts = type(memory).open, list[int]()

    def breaking(self: Any, path: str, *given: Any, **more: Any) -> Any:
        file = before(self, path, *given, **more)
        starts.append(
            (cache / "fetched").exists()
            and max((p.stat().st_size for p in (cache / "fetched").glob("*.part")), default=0)
        )
        return Broken(file, 700 * len(starts))

    monkeypatch.setattr(type(memory), "open", breaking)
    with pytest.raises(
        WhymaskError, match=r"cannot be read after 4 tries \(ConnectionResetError: cable pulled\); 2\.8 kB of it"
    ):
        opened("memory://shards", cache)
    assert starts == [0, 700, 1400, 2100]
    monkeypatch.setattr(type(memory), "open", before)
    assert np.array_equal(pixels(opened("memory://shards", cache)), IMAGES[:4])


def test_a_full_disk_keeps_what_came(memory: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(memory, write_shards(tmp_path / "shards", count=1), "/shards")

    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(remote, "sync_file", full)
        with pytest.raises(WhymaskError, match=r"No space left.*the same command goes on"):
            opened("memory://shards", cache)
    assert list((cache / "fetched").glob("*.part"))
    assert np.array_equal(pixels(opened("memory://shards", cache)), IMAGES[:4])
    assert not needless_in([], cache, days=1)
    listed = needless_in([], cache, days=0)
    assert {each.path.parent.name for each in listed} == {"fetched", "glances", "indices"}
    remove(listed)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_web_server_without_ranges_gives_shards_and_parquet(web: Served, tmp_path: Path, cache: Path) -> None:
    for path in write_shards(tmp_path / "shards", count=2).iterdir():
        (web.folder / path.name).write_bytes(path.read_bytes())
    write_parquet(web.folder / "train.parquet", range(12), rows=2)
    assert np.array_equal(pixels(opened(f"{web.address}/train-{{000000..000001}}.tar", cache)), IMAGES[:8])
    assert np.array_equal(pixels(opened(f"{web.address}/train.parquet", cache)), IMAGES)


# parquet


def write_parquet(path: Path, numbers: Any, rows: int) -> Path:
    import pyarrow
    from pyarrow import parquet

    cells = [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]
    table = pyarrow.table({"image": cells, "label": [number % 3 for number in numbers], "other": cells})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=rows)
    return path


def test_parquet_is_read_row_group_by_row_group_each_once(
    memory: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, numbers in (("train", range(9)), ("test", range(9, 12))):
        path = write_parquet(tmp_path / "p" / f"{split}.parquet", numbers, rows=2)
        memory.pipe(f"/p/{path.name}", path.read_bytes())
    asked: list[int] = []
    group = parquets.ParquetFiles._group
    monkeypatch.setattr(
        parquets.ParquetFiles, "_group", lambda self, column, at: asked.append(at) or group(self, column, at)
    )
    source = opened("memory://p", cache)
    assert source.splits is not None and source.splits.tolist() == ["test"] * 3 + ["train"] * 9
    assert source.keys[3] == "memory:///p/train.parquet#0:0.png" and source.labels.tolist() == [0, 1, 2] * 4
    assert asked == [] and np.array_equal(pixels(source)[3:], IMAGES[:9])
    assert sorted(asked) == [*range(7)]
    assert pixels(opened("memory://p/*.parquet", cache)).shape == (12, 8, 8, 3)
    assert sorted(asked) == [*range(7)], "what every command looks at is kept"
    here = opened(str(tmp_path / "p"), cache)
    assert np.array_equal(pixels(here), pixels(source)) and here.labels.tolist() == source.labels.tolist()
    assert len(asked) == 14


def test_few_row_groups_are_held(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "train.parquet", range(12), rows=1)
    monkeypatch.setattr(parquets, "KEPT_BYTES", 2000)
    held: list[int] = []
    group = parquets.ParquetFiles._group

    def spied(self: Any, column: str, at: int) -> Any:
        held.append(len(self.kept))
        return group(self, column, at)

    monkeypatch.setattr(parquets.ParquetFiles, "_group", spied)
    assert np.array_equal(pixels(opened(str(path), cache)), IMAGES) and max(held) <= 3


# addresses of images


def test_a_list_of_addresses_keeps_what_came_and_asks_again_for_what_did_not(
    web: Served, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        (web.folder / f"{number}.png").write_bytes(png(number))
    lines = "".join(f"{web.address}/{number}.png,{'cat' if number % 2 else 'dog'}\n" for number in range(8))
    (tmp_path / "list.csv").write_text(f"url,label\n{lines}")
    web.failing = {"/0.png": 2, "/1.png": 99}
    config = DataSettings(store=cache)
    first = prepare(str(tmp_path / "list.csv"), config, say=print)
    said = capsys.readouterr().out
    assert "2 of 8 addresses gave nothing, such as" in said and "the same command asks for these again" in said
    assert [(Path(key).name, reason.partition(" (")[2][:14]) for key, reason in first.images.skipped] == [
        ("1.png", "ClientResponse"),
        ("7.png", "not there: htt"),
    ]
    assert "after 4 tries" in first.images.skipped[0][1] and web.asked["/1.png"] == 4 and web.asked["/7.png"] == 1
    assert np.array_equal(first.images.images, IMAGES[[0, 2, 3, 4, 5, 6]])
    web.asked.clear()
    web.failing.clear()
    (web.folder / "7.png").write_bytes(png(7))
    whole = prepare(str(tmp_path / "list.csv"), config)
    assert web.asked == {"/1.png": 1, "/7.png": 1} and np.array_equal(whole.images.images, IMAGES[:8])
    web.asked.clear()
    assert prepare(str(tmp_path / "list.csv"), config).identity == whole.identity and not web.asked


def test_lists_may_be_texts_or_lie_behind_an_address_themselves(web: Served, tmp_path: Path, cache: Path) -> None:
    for number in range(4):
        (web.folder / f"{number}.png").write_bytes(png(number))
    (tmp_path / "list.txt").write_text("".join(f"{web.address}/{number}.png\n" for number in range(4)))
    (web.folder / "labels.csv").write_text("path,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(4)))
    assert np.array_equal(pixels(opened(str(tmp_path / "list.txt"), cache)), IMAGES[:4])
    source = opened(f"{web.address}/labels.csv", cache)
    assert source.labels.tolist() == [0, 1, 0, 1] and np.array_equal(pixels(source), IMAGES[:4])
    assert max(web.asked[f"/{number}.png"] for number in range(4)) == 1


def test_images_in_folders_behind_an_address_are_classes(memory: Any, cache: Path) -> None:
    for number in range(4):
        memory.pipe(f"/photos/{'cat' if number % 2 else 'dog'}/{number}.png", png(number))
    source = opened("memory://photos", cache)
    assert source.classes == ("cat", "dog") and source.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(pixels(source), IMAGES[[1, 3, 0, 2]])


def test_a_host_that_is_not_there_is_not_asked_for_each_of_its_files(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    ask = pictures.retried
    monkeypatch.setattr(pictures, "retried", lambda address, work: tried.append(address) or ask(address, work))
    monkeypatch.setattr(pictures, "AT_ONCE", 1)
    (tmp_path / "list.txt").write_text("".join(f"http://127.0.0.1:9/{number}.png\n" for number in range(50)))
    with pytest.raises(
        WhymaskError, match=r"50 of 50 addresses gave nothing \(.*Cannot connect to host.*check the addresses"
    ):
        opened(str(tmp_path / "list.txt"), cache)
    assert len(tried) == pictures.HOPELESS


# what is wrong with an address


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("memory://nowhere/x.tar", "there is no such file or folder"),
        ("memory://nowhere/*.tar", "there is no such file or folder"),
        ("http://127.0.0.1:9/x.tar", r"after 4 tries .*Cannot connect.*check the address"),
        ("http://host.invalid/x.tar", r"after 4 tries .*host\.invalid.*check the address"),
        ("mermory://x/x.tar", r"no file system is called mermory.*did you mean memory://\?"),
        ("memory://odd/notes.doc", r"1 files, such as memory:///odd/notes\.doc.*were expected"),
    ],
)
def test_what_is_wrong_with_an_address_is_told(given: str, said: str, memory: Any, cache: Path) -> None:
    memory.pipe("/odd/notes.doc", b"text")
    with pytest.raises(WhymaskError, match=said):
        check_there(given)
        opened(given, cache)


def test_a_driver_that_is_not_installed_is_named_with_its_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "find_spec", lambda package: None)
    for protocol, package in (("s3", "s3fs"), ("gs", "gcsfs")):
        given = f"{protocol}://bucket/train-{{000..009}}.tar"
        for ask in (lambda given=given: check_there(given), lambda given=given: opened(given, cache)):
            with pytest.raises(WhymaskError, match=f"{protocol}:// needs .* pip install {package}"):
                ask()


def test_a_table_of_paths_and_addresses_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\nmemory://a.png,1\nb.png,2\n")
    with pytest.raises(WhymaskError, match="1 of its 2 paths are addresses; all or none"):
        opened(str(tmp_path / "list.csv"), cache)
    assert re.search("are no addresses", _refusal(tmp_path, cache))


def _refusal(tmp_path: Path, cache: Path) -> str:
    (tmp_path / "list.txt").write_text("memory://a.png\nb.png\n")
    with pytest.raises(WhymaskError) as refused:
        opened(str(tmp_path / "list.txt"), cache)
    return str(refused.value)
