"""`theory`: the claims, from settings to claims.json, the arrays and the page."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from whymask.disk import read_json, write_arrays, write_record
from whymask.errors import WhymaskError
from whymask.progress import say, time_left
from whymask.runs import RunFolder, provenance
from whymask.theory.claims import CLAIMS, CONTROLS
from whymask.theory.claims.record import SCHEMA, Finding, tally
from whymask.theory.claims.scale import scale
from whymask.theory.lab import CLOCKS, Lab
from whymask.theory.measures import captured, own_overlap
from whymask.theory.page.write import write_theory_page
from whymask.theory.regime import IDEALISATIONS, Regime
from whymask.theory.result import TheoryResult
from whymask.theory.settings import TheorySettings, parse_seeds
from whymask.theory.store import Store, numpy

EDITION = 2
"""Of the lab: what an earlier one computed under equal settings is not mixed with this one's."""
NETWORKS = (*CLOCKS, *(f"{head}-{start}" for head in ("fixed", "learned") for start in ("random", *CLOCKS)))
"""Whose arrays are kept for those who plot themselves."""


def theory(out: str | Path = "runs/theory", settings: TheorySettings | None = None) -> TheoryResult:
    """Run the claims and leave claims.json, arrays.npz and report.html in `out`; returns claims.json's content, which a
    notebook shows as a table.

    What was computed is kept a seed at a time: the same call continues, further claims and seeds are added, and a share
    of the seeds (``seeds="10:20"``) gives the numbers that it has among all. Raises WhymaskError when `out` holds a run
    of another setting, and for settings that cannot be run.
    """
    settings, out = settings or TheorySettings(), Path(out)
    regime, seeds, ids = Regime.of(settings.regime), parse_seeds(settings), settings.chosen
    for k in settings.classes if "scale" in ids else ():
        regime.with_data(k=k)  # a k that cannot be run is told now, not after hours
    if regime.q < 3:
        say(f"warning: q={regime.q:g} lies outside the theorems, which need q >= 3")
    compared = asdict(replace(regime, device="auto", threads=None, budget=1.0)) | {"edition": EDITION}
    folder = RunFolder.open(out, compared, provenance(regime.torch_device.type, f"{regime.precision}-true"))
    done, store = _Done(out / "seeds"), Store(out / "arrays", regime.workers)
    for id in ids:
        if len(set(seeds) | set(done.seeds(id))) < 2:
            raise WhymaskError(f"--seeds {settings.seeds}: an interval over seeds needs at least 2. Give more.")

    @cache
    def judged(id: str, seeds: tuple[int, ...], classes: tuple[int, ...]) -> list[Finding]:
        lab = Lab(regime, seeds, store)
        if id == "controls":
            return [finding for control in CONTROLS for finding in control.test(lab)]
        return scale(lab, classes) if id == "scale" else CLAIMS[id].test(lab)

    say(f"{len(ids)} claims, of {len(seeds)} seeds: {', '.join(ids)}; the time left is told after the first")
    asked, took = (*ids, "controls"), 0.0
    for position, id in enumerate(asked, start=1):
        began = time.perf_counter()
        judged(id, tuple(seeds), settings.classes)
        took += (seconds := time.perf_counter() - began)
        done.add(id, seeds, seconds / len(seeds), settings.classes)
        if position < len(asked):
            say(f"[{position}/{len(asked)}] {id} is measured; {time_left(took / position * (len(asked) - position))}")
    with folder.held(wait=True):  # who comes last has all seeds
        classes = done.classes()
        claims = [claim for id in CLAIMS if done.seeds(id) for claim in judged(id, done.seeds(id), classes)]
        table = {
            "schema": SCHEMA,
            "setting": describe(regime) | {"scale_k": classes},
            "claims": [asdict(claim) for claim in claims],
            "controls": [asdict(claim) for claim in judged("controls", done.seeds("controls"), classes)],
            "seeds": sorted({seed for id in CLAIMS for seed in done.seeds(id)}),
            "idealisations": list(IDEALISATIONS),
            "provenance": folder.provenance,
            "seconds": done.seconds(),
        }
        _write(folder, table, Lab(regime, done.seeds("controls"), store))
    _show(claims)
    say(f"The page: {out / 'report.html'}")
    return TheoryResult(table)


def describe(regime: Regime) -> dict[str, Any]:
    """All settings with their defaults resolved."""
    resolved: dict[str, Any] = asdict(regime) | {"K": regime.K, "tau": regime.teacher, "horizon": regime.horizon}
    resolved |= {name: regime.rate(name) for name in resolved if name.endswith("_rate") and name != "pixel_rate"}
    resolved |= {"N": regime.images, "batches": regime.together, "growth_threshold": regime.threshold}
    data = regime.data
    resolved["data"] |= {"d": data.width, "P": data.patches, "sigma": data.noise}
    return resolved


class _Done:
    """Which seeds have run which claims, for how long, and `scale` at which k: a file a seed, so that shares do not
    meet."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, id: str, seeds: Sequence[int], seconds: float, classes: Sequence[int]) -> None:
        for seed in seeds:
            path = self.folder / f"{seed}.json"
            known = read_json(path) if path.exists() else {"seconds": {}, "scale_k": []}
            known["seconds"][id] = known["seconds"].get(id, 0.0) + seconds
            if id == "scale":
                known["scale_k"] = sorted({*known["scale_k"], *classes})
            write_record(path, known)

    def seeds(self, id: str) -> tuple[int, ...]:
        found = (int(path.stem) for path in self.folder.glob("*.json") if id in read_json(path)["seconds"])
        return tuple(sorted(found))

    def classes(self) -> tuple[int, ...]:
        """The numbers of classes at which every seed that ran `scale` ran it."""
        ran = [set(read_json(self.folder / f"{seed}.json")["scale_k"]) for seed in self.seeds("scale")]
        return tuple(sorted(set.intersection(*ran))) if ran else ()

    def seconds(self) -> float:
        return sum(sum(read_json(path)["seconds"].values()) for path in self.folder.glob("*.json"))


def _write(folder: RunFolder, table: dict[str, Any], lab: Lab) -> None:
    """claims.json, arrays.npz, and the page that is made of them."""
    write_record(folder.path / "claims.json", table)
    write_arrays(folder.path / "arrays.npz", _arrays(lab))
    write_theory_page(folder.path)
    folder.finish({"states": [[claim["id"], claim["clock"], claim["state"]] for claim in table["claims"]]})


def _arrays(lab: Lab) -> dict[str, np.ndarray]:
    """First and last kernels, heads and Lambda over time of every network that all seeds have."""
    arrays: dict[str, np.ndarray] = {"features": numpy(lab.features), "start/kernels": numpy(lab.start().kernels)}
    arrays["seeds"] = np.array(lab.seeds)
    for name in NETWORKS:
        if (trained := lab.known(name)) is None:
            continue
        arrays |= {f"{name}/{key}": numpy(tensor) for key, tensor in trained.network.tensors().items()}
        arrays |= {f"{name}/growth": trained.growth}
        if name in CLOCKS:
            arrays[f"{name}/captured"] = numpy(captured(trained.network, lab.features, lab.regime.horizon))
        elif name.startswith("fixed"):
            arrays[f"{name}/own_overlap"] = numpy(own_overlap(trained.network, lab.features, lab.data.L))
    return arrays


def _show(findings: Sequence[Finding]) -> None:
    """A line a claim, and how many hold."""
    for id in dict.fromkeys(one.id for one in findings):
        say(f"{id}: " + "; ".join(_result(one) for one in findings if one.id == id))
    say(tally([one.state for one in findings]))


def _result(found: Finding) -> str:
    """ "own clock 0.978 (0.958 to 0.990) holds"."""
    clock = f"{found.clock} clock " if found.clock else ""
    measured = "nothing to measure" if found.measured is None else f"{found.measured:.3f}"
    interval = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{clock}{measured}{interval} {found.state or 'no threshold'}"
