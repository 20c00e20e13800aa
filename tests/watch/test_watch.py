"""A page of what goes on in a folder: made from its files alone, whatever is missing, and for nobody else."""

import http.client
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from browsing import Visit, faults_of
from pages import facts_of, words_of
from whymask.disk import read_json, write_arrays, write_record
from whymask.errors import WhymaskError
from whymask.locks import HOLDER
from whymask.studies.running import CELLS
from whymask.watch.page import part_now
from whymask.watch.seen import Seen, StudySeen, seen_at
from whymask.watch.serve import Watcher, watching

RECORD = {"schema": 2, "config": {"stage": "pretrain", "arm": "mae", "seed": 0, "data": "x"}, "provenance": {}}
HERE = f"process {os.getpid()} on {socket.gethostname()}"


def line(step: int, **changes: Any) -> str:
    means = {"step": step, "steps": 400, "loss": 1 / step, "gradient_norm": 0.5, "images_per_second": 99.6}
    return json.dumps(means | {"seconds": step / 2} | changes) + "\n"


def begin(folder: Path, lines: str = "", writer: str = HERE) -> Path:
    """A pretraining as it lies on disk while it computes."""
    write_record(folder / "config.json", RECORD)
    (folder / "metrics.jsonl").write_text(lines)
    if writer:
        (folder / HOLDER).write_text(writer)
    return folder


def run_in(folder: Path) -> Seen:
    found = seen_at(folder)
    assert isinstance(found, Seen)
    return found


def test_a_run_is_seen_at_each_moment_of_its_life(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run_in(folder).state == "waiting" and not folder.exists()
    folder.mkdir()
    assert run_in(folder).state == "waiting"
    assert run_in(begin(folder)).state == "begun"
    begin(folder, line(100) + line(200, validation={"knn": 0.5}) + line(200) + '{"step": 300, "lo')
    run = run_in(folder)
    assert (run.state, run.steps, run.seconds_left, run.writer) == ("running", (200, 400), 100.0, HERE)
    told = facts_of(part_now(folder))
    assert told["steps"] == "200 of 400" and told["time left"] == "about 100 s" and told["loss"] == "0.005"
    (folder / HOLDER).unlink()
    assert run_in(folder).state == "stopped" and run_in(folder).seconds_left is None
    write_record(folder / "nonfinite.json", {"step": 201})
    assert run_in(folder).error == "the loss or its gradient was not finite at step 201"
    assert "not finite at step 201" in part_now(folder)
    (folder / HOLDER).write_text(HERE)
    assert run_in(folder).state == "running", "it is tried again"
    (folder / HOLDER).unlink()
    write_record(folder / "result.json", {"seconds": 321.0})
    assert run_in(folder).state == "finished" and facts_of(part_now(folder))["time so far"] == "5 min 21 s"


def test_a_writer_that_has_ended_on_this_machine_is_none_and_one_elsewhere_may_live(tmp_path: Path) -> None:
    ended = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(ended, 0)
    assert run_in(begin(tmp_path, line(1), f"process {ended} on {socket.gethostname()}")).state == "stopped"
    assert run_in(begin(tmp_path, line(1), f"process {ended} on elsewhere")).state == "running"
    assert run_in(begin(tmp_path, line(1), "what is this")).state == "running"


def test_on_windows_where_asking_would_stop_it_a_writer_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
    assert run_in(begin(tmp_path, line(1))).state == "running"


def test_what_is_damaged_or_of_an_earlier_version_tells_less(tmp_path: Path) -> None:
    begin(tmp_path, "\x00\xff nothing\n" + json.dumps({"step": 5, "loss": 2.0}) + "\n[1]\n" + line(10))
    (tmp_path / "gallery.npz").write_bytes(b"PK no archive")
    (tmp_path / "result.json").write_text('{"half": ')
    run = run_in(tmp_path)
    assert run.state == "running" and [known["step"] for known in run.lines] == [5, 10]
    assert "None yet" in part_now(tmp_path)
    begin(tmp_path, json.dumps({"step": 5, "loss": 2.0}) + "\n")
    assert run_in(tmp_path).steps is None and "last written" in facts_of(part_now(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert run_in(tmp_path).arm == "" and part_now(tmp_path)


@pytest.fixture
def growing(finished: Path, tmp_path: Path) -> Path:
    """A copy of the tiny study in which the first seed is run, and the second one's pretraining runs."""
    folder = shutil.copytree(finished, tmp_path / "growing")
    for name in ("result.json", "study.json", "report.html"):
        (folder / name).unlink()
    for cell in read_json(folder / CELLS)["cells"]:
        own = folder / "cells" / cell["name"]
        if cell["seed"] == 1 and cell["name"] != "pretrain-mae-1":
            shutil.rmtree(own)
        elif cell["seed"] == 0:
            result = read_json(own / "result.json")
            write_record(own / "result.json", result | {"seconds": 10.0})
    own = folder / "cells/pretrain-mae-1"
    (own / "result.json").unlink()
    begin(own, line(100) + line(200, seconds=5.0))
    return folder


def test_a_study_is_seen_with_its_cells_in_order_and_the_time_they_still_take(growing: Path) -> None:
    study = seen_at(growing)
    assert isinstance(study, StudySeen) and study.state == "running"
    half = len(study.cells) // 2
    assert [cell.state for cell in study.cells] == ["finished"] * half + ["running"] + ["waiting"] * (half - 1)
    planned = read_json(growing / CELLS)["cells"]
    others = sum(cell["operations"] for cell in planned if cell["budget"] is not None) / 2
    pace = 10 * (half - 1) / others
    assert study.seconds_left == pytest.approx(pace * others + 5.0)  # the pretraining goes on as it went
    told = facts_of(part_now(growing))
    assert told["cells done"] == f"{half} of {2 * half}" and "about" in told["time left"]
    assert "pretraining mae, seed 1 running, step 200 of 400" in words_of(part_now(growing))


def test_a_study_of_before_its_cells_were_noted_and_one_that_only_began(growing: Path, tmp_path: Path) -> None:
    (growing / CELLS).unlink()
    study = seen_at(growing)
    assert isinstance(study, StudySeen) and study.seconds_left is None and study.count("running") == 1
    assert study.expected == 2 * (len(study.cells) - 1), "also those that have not begun, by the study's settings"
    assert facts_of(part_now(growing))["cells done"] == f"{len(study.cells) - 1} of {study.expected}"
    assert {cell.arm for cell in study.cells} == {"mae", "scratch", "scratch-long"}
    write_record(tmp_path / "new/config.json", {"config": {"settings": {}, "fingerprint": "x"}})
    begun = seen_at(tmp_path / "new")
    assert isinstance(begun, StudySeen) and begun.state == "waiting" and "A study" in part_now(tmp_path / "new")


def test_a_cell_is_called_by_the_studys_arm_and_chosen_labels_are_cells_of_their_own(growing: Path) -> None:
    noted = read_json(growing / CELLS)["cells"]
    mae = next(cell for cell in noted if cell["name"] == "mae-2-0")
    further = [
        mae | {"name": "mae+typical-2-0", "title": "mae+typical", "choose": "typical"},
        mae | {"name": "pretrain-continue=a-b-0", "arm": "continue=a-b", "budget": None},
    ]
    for cell in further:
        shutil.copytree(growing / "cells/pretrain-mae-0", growing / "cells" / cell["name"])
    write_record(growing / CELLS, {"cells": [*noted, *further]})
    study = seen_at(growing)
    assert isinstance(study, StudySeen) and study.seconds_left is not None
    assert [cell.arm for cell in study.cells[-2:]] == ["mae+typical", "continue=a-b"]
    write_record(growing / CELLS, {"cells": [*noted, further[0] | {"choose": ""}]})  # as once noted
    assert part_now(growing) and seen_at(growing).seconds_left is None


def test_a_finished_study_tells_its_verdict_and_a_cell_that_failed_why(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "copy")
    write_record(folder / "cells/mae-2-1/error.json", {"error": "out of <b>memory"})
    (folder / "cells/mae-2-1/result.json").unlink()
    page = part_now(folder)
    assert read_json(folder / "study.json")["verdict"]["text"] in words_of(page) and 'href="report.html"' in page
    assert "out of &lt;b&gt;memory" in page and facts_of(page)["cells failed"] == "1"
    assert "data:image/webp" in page, "the reconstructions"


# the server ------------------------------------------------------------------------------------------------


@pytest.fixture
def serving() -> Iterator[Callable[[Path], Watcher]]:
    """Serves a folder in another thread, until the test ends."""
    begun: list[Any] = []

    def serve(folder: Path) -> Watcher:
        context = watching(folder)
        watcher = context.__enter__()
        thread = Thread(target=watcher.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        begun.append((context, watcher, thread))
        return watcher

    yield serve
    for context, watcher, thread in begun:
        watcher.shutdown()
        thread.join()
        context.__exit__(None, None, None)


def answer(watcher: Watcher, path: str, method: str = "GET") -> http.client.HTTPResponse:
    """To a path as it is, which no client has tidied."""
    connection = http.client.HTTPConnection(*watcher.server_address, timeout=60)  # type: ignore[arg-type]
    connection.putrequest(method, path)
    connection.endheaders()
    return connection.getresponse()


def test_only_three_addresses_are_answered_and_only_to_who_knows_the_token(
    finished: Path, tmp_path: Path, serving: Callable[[Path], Watcher]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    watcher = serving(finished)
    token, host = watcher.token, watcher.server_address[0]
    assert host == "127.0.0.1" and len(token) >= 20 and token != Watcher(tmp_path).token
    page = urlopen(watcher.address)
    assert page.headers["Cache-Control"] == "no-store" and page.headers["X-Content-Type-Options"] == "nosniff"
    assert answer(watcher, f"/{token}/now?x=1").read().decode() == part_now(finished)
    assert answer(watcher, f"/{token}/report.html").read() == (finished / "report.html").read_bytes()
    refused = (
        "/",
        "/now",
        "//",
        f"/{token}",
        f"/{token[:-1]}/",
        f"/{token}x/now",
        "/favicon.ico",
        "/%E9/",
    )
    beside = (
        "config.json",
        "../config.json",
        "./now",
        "%2e%2e/config.json",
        "cells/../now",
        "/etc/passwd",
        "report.html/",
    )
    for path in (*refused, *(f"/{token}/{name}" for name in beside)):
        assert answer(watcher, path).status == 404, path
    assert answer(watcher, f"/{token}/", "POST").status == 501
    with socket.create_connection(watcher.server_address) as raw:  # what no client would ask
        raw.sendall(b"GET http://[ HTTP/1.0\r\n\r\n")
        assert raw.makefile("rb").readline().split()[1] == b"404"
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before, "it only reads"


def test_a_port_that_is_taken_and_a_file_are_refused(tmp_path: Path, whymask: Callable[..., int], capsys: Any) -> None:
    with (
        Watcher(tmp_path) as taken,
        pytest.raises(WhymaskError, match=r"--port \d+: .*give another one"),
        watching(tmp_path, taken.server_address[1]),
    ):
        pass
    (tmp_path / "file").touch()
    assert whymask("watch", tmp_path / "file") == 2 and "is a file; the folder of a run" in capsys.readouterr().err
    assert whymask("watch", tmp_path, "--port", 99999) == 2


def test_the_command_prints_the_address_and_ctrl_c_ends_it(
    tmp_path: Path, whymask: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def visited(self: Watcher) -> None:
        address = capsys.readouterr().out.strip()
        thread = Thread(target=self.handle_request)
        thread.start()
        found.append(urlopen(address).read().decode())
        thread.join()
        raise KeyboardInterrupt

    found: list[str] = []
    monkeypatch.setattr(Watcher, "serve_forever", visited)
    assert whymask("watch", tmp_path / "to-come") == 130
    assert "Nothing of a run is in this folder yet" in found[0] and not (tmp_path / "to-come").exists()


# in a browser ----------------------------------------------------------------------------------------------


def test_the_page_renews_itself_asks_nobody_else_and_reads_well(
    growing: Path, tmp_path: Path, serving: Callable[[Path], Watcher], browser: Any
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    folder = begin(tmp_path / "run", line(100))
    watcher = serving(folder)
    with Visit(browser, watcher.address) as visit:
        assert visit.page.locator("#curves svg").count() == 0
        begin(folder, line(100) + line(200) + line(300, validation={"knn": 0.5, "first_knn": 0.4}))
        write_arrays(folder / "gallery.npz", dict.fromkeys(("original", "masked", "reconstructed"), images))
        visit.page.locator(".triple").nth(3).wait_for()
        assert visit.page.locator("#curves svg").count() == 2 and "step" in visit.page.locator(".facts").inner_text()
        assert all(url.startswith((watcher.address, "data:")) for url in visit.requests) and not visit.said
        assert not visit.page.locator("#lost").is_visible()
    assert faults_of(browser, watcher.address) == []
    assert faults_of(browser, serving(growing).address) == []
