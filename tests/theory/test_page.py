"""The theory run's page: every claim with its number, whatever is missing left out, nothing that reaches out."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsing import faults_of
from pages import shares_in_percent
from whymask.errors import WhymaskError
from whymask.theory.claims.earlier import with_states
from whymask.theory.claims.record import tally
from whymask.theory.page.write import TITLES, write_theory_page

S, K, L, PER_CLASS, D, T = 3, 4, 2, 3, 20, 9
NASTY = "<script>alert(1)</script> $x^2$ \u202e\ud800\x07 {{7*7}}"


def row(what: str, measured: float | None = 0.97, width: float | None = 0.02, **more: Any) -> dict[str, Any]:
    ends = (None, None) if measured is None or width is None else (measured - width, min(1.0, measured + width))
    return {"what": what, "measured": measured, "low": ends[0], "high": ends[1], "seeds": S} | more


def claim(id: str, state: str | None, *rows: dict[str, Any], clock: str | None = None) -> dict[str, Any]:
    judged = {key: rows[0].get(key) for key in ("measured", "low", "high", "threshold")}
    about = {"id": id, "clock": clock, "source": "[P] Theorem 1", "predicted": f"what {id} predicts", "seeds": S}
    return about | judged | {"state": state, "rows": list(rows)}


def downstream_rows(clock: str) -> list[dict[str, Any]]:
    accuracy = {("fixed", "random"): 0.61, ("fixed", clock): 0.99, ("learned", "random"): 0.93}
    accuracy |= {("learned", clock): 0.995, ("frozen", "random"): 0.8}
    rows = [row("pretrained minus supervised", 0.07 if clock == "own" else -0.02, threshold=0.0)]
    for (head, start), value in accuracy.items():
        for view in ("multi", "single", "mixed"):
            level = value if view == "single" else 0.99
            rows.append(row(f"{head} head, kernels {start}: {view}", level, head=head, start=start, view=view))
    for scale in (0.01, 0.1) if clock == "own" else ():
        for kernels, head in ((0.5, 0.5), (0.5, 50.0)):
            about = {"region": True, "scale": scale, "kernel_rate": kernels, "head_rate": head, "view": "single"}
            about |= {"head": "learned", "start": "random", "one_feature_classes": 0.4, "reached": 0.67}
            rows.append(row(f"from scratch, scale {scale}", 0.5 + scale, **about))
    return rows


def growth_rows() -> list[dict[str, Any]]:
    cells, crossings = [], []
    for C_p in (1, 2):
        for theta in (0.25, 0.5, 0.75):
            bound = (1 / theta - 1) / C_p
            crossings.append(row("half grow", 0.97, None, theta=theta, C_p=C_p, crossing=0.97, state="holds"))
            for factor in (0.6, 0.9, 1.0, 1.2):
                about = {"theta": theta, "C_p": C_p, "factor": factor, "excess": factor * bound}
                about |= {"grown": float(np.clip(4 * (factor - 0.8), 0, 1)), "predicted_grown": 1.0, "count": 36}
                cells.append(row("agreement", 0.99, **about, worst_seed=2, worst=0.9))
    crossings.append(row("half grow", None, theta=0.9, C_p=1, crossing=None, state="fails"))
    return [row("worst cell", 0.951, threshold=0.95, state="undecided"), *crossings, *cells]


def ensemble_rows() -> list[dict[str, Any]]:
    kinds = {"supervised, fixed head": 0.2, "pretrained, learned head": 0.01}
    curves = [
        row("accuracy", 0.6 + gain * (1 - 1 / E), 0.03 if E < 5 else None, networks=kind, members=E, mu=0.01)
        for kind, gain in kinds.items()
        for E in range(1, 11)
    ]
    gains = [
        row("gain", gain + mu, networks=kind, members=5, mu=mu, gain=True)
        for kind, gain in kinds.items()
        for mu in (0.01, 0.2)
    ]
    return [row("difference of gains", 0.19, threshold=0.0), *curves, *gains]


def scale_rows() -> list[dict[str, Any]]:
    values = {"coverage": 0.99, "purity": 0.9, "supervised-lottery": 0.7, "downstream": 0.1, "fixed": 0.6}
    rows = [row(of, value, k=k, of=of, N=200 * k) for of, value in values.items() for k in (10, 20)]
    cost = [row("seconds", 0.3 * k, None, k=k, of="seconds", steps={"own": 100, "fixed": 2400}) for k in (10, 20)]
    return [row("change for every tenfold k", -0.01), *rows, *cost]


def fake_run() -> dict[str, Any]:
    covered = [
        row(what, share, covered=share, **more)
        for share in (0.25, 1.0)
        for what, more in (("shown captured", {}), ("accuracy", {"view": "single"}), ("accuracy", {"view": "multi"}))
    ]
    pooled = {"count": 24, "worst_seed": 1, "worst": 0.875, "threshold": 0.95}
    claims = [
        claim("coverage", "holds", row("features captured", 0.99, **pooled), row("held"), clock="own"),
        claim("coverage", "fails", row("features captured", 0.4321, **pooled), clock="common"),
        claim("supervised-lottery", "fails", row("classes", 0.7123, threshold=0.9)),
        claim("downstream", "holds", *downstream_rows("own"), clock="own"),
        claim("downstream", "not measured", row("no seed at the loss", None, threshold=0.0), clock="common"),
        claim("growth", "undecided", *growth_rows()),
        claim("data-coverage", "holds", row("slope", 0.5, threshold=0.0), row("absent", 0.0), *covered),
        claim("ensembles", "holds", *ensemble_rows()),
        claim("scale", None, *scale_rows()),
        claim("reconstruction", None, row("features captured", None)),
    ]
    return {
        "schema": 2,
        "setting": {"data": {"k": K, "L": L, "d": D, "C_p": 2, "mu": 0.01}, "m": PER_CLASS, "q": 3.0, "horizon": 0.8},
        "claims": claims,
        "controls": [claim("control-tau", "holds", row("kernels that grew", 0.0, threshold=0.0))],
        "seeds": list(range(S)),
        "idealisations": ["Own clock: each kernel stops at its own horizon."],
        "provenance": {"command": "whymask theory --seeds 3", "versions": {"torch": "2.15.0"}},
        "seconds": 72.0,
    }


def fake_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    random, n = np.random.default_rng(seed), K * L
    features = np.linalg.qr(random.normal(size=(D, n)))[0].T
    start = random.normal(0, 0.03, (S, K * PER_CLASS, D))
    winners = (start @ features.T).argmax(2)
    ramp = np.linspace(0.05, 0.8, T)[:, None] * np.where(np.arange(n) < n - 2, 1, 0.2)
    arrays = {"features": features, "start/kernels": start, "fixed-random/own_overlap": random.random((S, K, L))}
    for clock in ("own", "common"):
        arrays[f"{clock}/kernels"] = arrays[f"learned-{clock}/kernels"] = start + 0.8 * features[winners]
        arrays[f"{clock}/growth"] = np.tile(ramp, (S, 1, 1)) * (1 if clock == "own" else 9)
        arrays[f"{clock}/captured"] = np.tile(np.arange(n) < n - 2, (S, 1))
    return arrays


def write_run(folder: Path, run: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> Path:
    (folder / "claims.json").write_text(json.dumps(run))
    if arrays is not None:
        np.savez(folder / "arrays.npz", **arrays)
    return folder


class Page(HTMLParser):
    """The parts of a page that could act, and its words."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("theory"), fake_run(), fake_arrays())
    write_theory_page(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(folder / "report.html")


def rows_of(page: Page, label: str) -> list[str]:
    table = page.source[page.source.index(f'aria-label="{label}"') :]
    return re.findall("<tr>(.*?)</tr>", table[table.index("<tbody>") : table.index("</tbody>")], re.DOTALL)


def test_the_top_says_what_holds_and_what_does_not(page: Page) -> None:
    told = "4 hold, 2 fail, 1 undecided, 1 not measured"
    assert f"k = 4, 3 seeds; 6 claims, 2 of them on several clocks: {told}." in page.text
    top = page.text[: page.text.index("The regime")]
    assert "0.432 (0.412 to 0.452), threshold 0.95" in top
    assert TITLES["supervised-lottery"] in top and "0.712" in top and "common clock" in top
    assert "The negative control came out as it must." in top


def test_the_top_has_a_row_a_claim_with_its_state_on_each_clock(page: Page) -> None:
    rows = rows_of(page, "What came of every claim")
    assert len(rows) == len({claim["id"] for claim in fake_run()["claims"]})
    assert rows[0].count("holds</span>") == 1 and rows[0].count("fails</span>") == 1
    downstream = next(shown for shown in rows if TITLES["downstream"] in shown)
    assert "not measured</span>" in downstream and "nothing to compare" in downstream
    assert any("undecided</span>" in shown and "the interval holds the threshold" in shown for shown in rows)


def test_every_claim_is_a_row(page: Page) -> None:
    rows = rows_of(page, "Claims")
    assert len(rows) == len(fake_run()["claims"])
    assert "own clock" in rows[0] and "0.970 to 1.000" in rows[0] and "what coverage predicts" in rows[0]
    assert "common clock" in rows[1] and "0.432" in rows[1] and "fails" in rows[1] and "badge bad" in rows[1]
    assert "no threshold" in rows[8] and "no threshold" in rows[9] and "<b>–</b>" in rows[9]
    assert len(rows_of(page, "Negative controls")) == 1


def test_the_regime_stands_above_the_table(page: Page) -> None:
    idealised, table = page.text.index("stops at its own horizon"), page.text.index("what coverage predicts")
    assert page.text.index("kernels a class") < idealised < table < page.text.index("Every setting, as resolved")
    assert "whymask theory --seeds 3" in page.text and "1 min 12 s" in page.text and "2.15.0" in page.text


def test_a_claim_that_the_lower_bound_does_not_decide_says_so(page: Page) -> None:
    rows = rows_of(page, "Claims")
    shown = [re.findall(r"</span>\s*<small>(.*?)</small>", row) for row in rows]
    assert shown[4] == ["nothing to compare"] and shown[5] == ["the interval holds the threshold"]
    assert not any(reasons for place, reasons in enumerate(shown) if place not in (4, 5))


def test_a_claim_says_that_another_of_its_rows_decides(tmp_path: Path) -> None:
    fails, open_ = (claim("growth", state, row("agreement", 0.99, threshold=0.95)) for state in ("fails", "undecided"))
    page = Page(write_theory_page(write_run(tmp_path, {"claims": [fails, open_]})))
    assert "another of its rows fails" in page.text and "another of its rows is undecided" in page.text


def test_a_claim_without_an_interval_says_so(tmp_path: Path) -> None:
    run = {
        "claims": [claim("retention", "undecided", row("smallest ratio", 3.3309, None, threshold=0.95), clock="common")]
    }
    page = Page(write_theory_page(write_run(tmp_path, run)))
    assert "3.331, threshold 0.95" in page.text
    assert "too few seeds for an interval" in page.text and "1 claim: 1 undecided" in page.text


def earlier(claim: dict[str, Any], holds: bool | None) -> dict[str, Any]:
    """A claim as schema 1 had it; `holds` is that of its first row too."""
    rows = [{key: value for key, value in one.items() if key != "state"} for one in claim["rows"]]
    rows[0] |= {"holds": holds}
    return {key: value for key, value in claim.items() if key != "state"} | {"holds": holds, "rows": rows}


@pytest.mark.parametrize(
    ("measured", "width", "holds", "state"),
    [
        (0.98, 0.02, True, "holds"),
        (0.8, 0.02, False, "fails"),
        (0.96, 0.02, True, "undecided"),  # was judged by the number itself
        (0.94, 0.02, False, "undecided"),
        (0.94, None, False, "undecided"),
        (None, None, False, "not measured"),
        (0.94, 0.02, None, None),
    ],
)
def test_claims_of_earlier_versions_have_the_states_of_their_numbers(
    measured: float | None, width: float | None, holds: bool | None, state: str | None
) -> None:
    old = earlier(claim("coverage", None, row("features", measured, width, threshold=0.95)), holds)
    found = with_states(old)
    assert found["state"] == found["rows"][0]["state"] == state
    assert with_states(found) == found


def test_a_claim_of_earlier_versions_that_another_row_decided_fails_or_is_undecided_with_that_row() -> None:
    main = row("slope", 0.5, threshold=0.0)
    for absent, state in (
        (row("absent", 0.9, threshold=0.05), "fails"),
        (row("absent", 0.05, threshold=0.05), "undecided"),
    ):
        old = earlier(claim("data-coverage", None, main, absent | {"holds": False}), False)
        old["rows"][0]["holds"] = True
        assert with_states(old)["state"] == state


def test_controls_of_earlier_versions_hold_by_their_number() -> None:
    chance = claim("control-winners", None, row("agreement", 0.05, threshold=0.05))
    assert with_states(earlier(chance, True), control=True)["state"] == "holds"
    assert with_states(earlier(chance, False), control=True)["state"] == "fails"


def test_the_published_claims_are_in_four_states() -> None:
    path = Path(__file__).parents[2] / "docs" / "results" / "theory" / "claims.json"
    states = [with_states(one)["state"] for one in json.loads(path.read_text())["claims"]]
    assert tally(states) == "25 hold, 8 fail, 5 undecided, 1 not measured"


def test_the_regions_rows_stand_apart(page: Page) -> None:
    tables = re.findall(r'aria-label="Rows of Pretraining helps downstream".*?</table>', page.source, re.DOTALL)
    assert [("kernel rate" in table) for table in tables] == [False, True, False]
    cells = re.findall(r"<td style=\"background: rgb\(var\(--heat\) / ([\d.]+)\)\"><b>([\d.]+)</b>", page.source)
    assert cells == [("0.49", "0.510")] * 2 + [("0.4", "0.600")] * 2


def test_rows_have_all_their_keys(page: Page) -> None:
    assert shares_in_percent(page.source) == []
    for shown in ("predicted grown", "own 100, fixed 2,400", "2 (0.900)", "worst seed", "networks", "crossing"):
        assert shown in page.text, shown


def test_the_page_can_be_read_on_a_phone_and_on_a_desk_in_light_and_dark(browser: Any, folder: Path) -> None:
    assert faults_of(browser, folder / "report.html") == []


def test_every_picture_is_there(page: Page, folder: Path) -> None:
    sections = {"growth", "kernels", "lottery", "accuracy", "phases", "scale", "data-coverage", "ensembles", "region"}
    assert sections <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "an id twice: figures would borrow one another's parts"
    names = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert names == {
        "theory-growth-own", "theory-growth-common", "theory-kernels-start", "theory-kernels-own",
        "theory-kernels-learned-own", "theory-kernels-common", "theory-lottery", "theory-accuracy-multi",
        "theory-accuracy-single", "theory-phases-equal-1", "theory-phases-equal-2", "theory-scale-shares",
        "theory-scale-networks", "theory-scale-seconds", "theory-covered-accuracy", "theory-covered-captured",
        "theory-ensembles-members", "theory-ensembles-gain",
    }  # fmt: skip
    assert page.source.count("<figcaption>") == len(names) == page.tags.count("svg")
    assert "6 of 8 features captured in the first seed" in page.text
    assert "0.400 of the classes with one feature" in page.text


def test_the_page_makes_no_request(page: Page) -> None:
    assert page.urls and all(url.startswith(("#", "data:image/png;base64,")) for url in page.urls)
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    assert {url[1:] for url in page.urls if url.startswith("#")} <= set(page.ids)
    assert page.tags.count("script") == 1 and not {"link", "iframe", "object", "embed", "form"} & set(page.tags)


def test_the_page_is_deterministic(folder: Path) -> None:
    kept = [folder / "report.html", *sorted((folder / "figures").glob("*.svg"))]
    before = [path.read_bytes() for path in kept]
    write_theory_page(folder)
    assert [path.read_bytes() for path in kept] == before


def test_strings_are_data(tmp_path: Path) -> None:
    run = fake_run()
    for entry in (*run["claims"], *run["controls"]):
        entry |= {"source": NASTY, "predicted": NASTY, "clock": NASTY}
        entry["rows"] = [one | {"what": NASTY, NASTY: NASTY} for one in entry["rows"]]
        entry["rows"] += [row("", 0.5, networks=NASTY, members=1, view=NASTY, covered=0.5, head=NASTY, start=NASTY)]
    run["claims"].append(claim(NASTY, "fails", row("x")))
    run["idealisations"] = [NASTY]
    run["setting"]["data"]["k"] = run["setting"][NASTY] = run["provenance"]["command"] = NASTY
    page = Page(write_theory_page(write_run(tmp_path, run, fake_arrays())))
    assert page.tags.count("script") == 1 and "<script>alert" not in page.source
    assert "<script>alert(1)</script> $x^2$" in page.text and "{{7*7}}" in page.text and "\u202e" not in page.source
    assert "&lt;script&gt;" in (tmp_path / "figures" / "theory-ensembles-members.svg").read_text()


@pytest.mark.parametrize("run", [{}, {"claims": None, "seeds": None, "setting": None}, {"claims": [{"id": "growth"}]}])
def test_a_page_from_almost_nothing(tmp_path: Path, run: dict[str, Any]) -> None:
    page = Page(write_theory_page(write_run(tmp_path, run)))
    assert "No claim has a threshold" in page.text and "svg" not in page.tags and "pictures" not in page.ids


def test_nulls_and_gaps_are_left_out(tmp_path: Path) -> None:
    run, numbers = fake_run(), ("measured", "low", "high", "threshold", "seeds", "excess", "k", "covered", "scale")
    for entry in run["claims"]:
        entry |= dict.fromkeys(numbers) | {"state": None}
        entry["rows"] = [one | {key: None for key in numbers if key in one} for one in entry["rows"]]
    arrays = fake_arrays()
    gone = {"features": np.zeros(3), "own/growth": np.full((S, T, K * L), np.nan), "common/captured": np.zeros((S, 2))}
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "theory-lottery-old.svg").write_text("stale")
    page = Page(write_theory_page(write_run(tmp_path, run, arrays | gone)))
    top = page.text[: page.text.index("The regime")]
    assert "No claim has a threshold" in top and top.count(" no threshold ") == 10
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} == {"theory-lottery"}
    assert {"claims", "controls", "rows", "lottery"} <= set(page.ids) and "region" not in page.ids


def test_diverged_and_damaged_arrays(tmp_path: Path) -> None:
    arrays = fake_arrays()
    arrays["common/growth"][:, -3:] = np.inf
    arrays["common/kernels"][:] = np.nan
    assert "growth" in Page(write_theory_page(write_run(tmp_path, fake_run(), arrays))).ids
    (tmp_path / "arrays.npz").write_bytes(b"PK damaged")
    page = Page(write_theory_page(tmp_path))
    assert "growth" not in page.ids and "phases" in page.ids


def test_a_control_that_fails_is_a_warning(tmp_path: Path) -> None:
    run = fake_run()
    run["controls"].append(claim("control-winners", "fails", row("agreement", 0.5678, threshold=0.05)))
    page = Page(write_theory_page(write_run(tmp_path, run)))
    assert "did not come out as they must" in page.text and "0.568" in page.text and 'class="note"' in page.source


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_no_run_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "claims.json").write_text(content)
    with pytest.raises(WhymaskError, match=r"claims\.json"):
        write_theory_page(tmp_path)
