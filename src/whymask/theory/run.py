"""`theory`: the claims, from settings to claims.json, the arrays and the page."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from whymask.errors import WhymaskError
from whymask.flags import Flat
from whymask.progress import say
from whymask.runs import SCHEMA, RunFolder, provenance, read_json, write_arrays, write_json
from whymask.theory.claims import CLAIMS, Claim
from whymask.theory.claims.controls import controls
from whymask.theory.claims.scale import classes_up_to, scale
from whymask.theory.lab import CLOCKS, Lab
from whymask.theory.measures import captured, own_overlap
from whymask.theory.page.write import write_theory_page
from whymask.theory.setting import IDEALISATIONS, Setting
from whymask.theory.store import Store, numpy

ClaimId = Literal[
    "coverage", "purity", "kernel-lottery", "supervised-lottery", "downstream", "retention", "growth", "data-coverage",
    "ensembles", "scale", "reconstruction",
]  # fmt: skip
QUICK: tuple[ClaimId, ...] = (
    "coverage", "purity", "kernel-lottery", "supervised-lottery", "downstream", "retention", "growth",
)  # fmt: skip
CONTROLS = "controls"
NETWORKS = (*CLOCKS, *(f"{head}-{start}" for head in ("fixed", "learned") for start in ("random", *CLOCKS)))
"""Whose arrays are kept for those who plot themselves."""


@dataclass(frozen=True)
class TheorySettings:
    """What `whymask theory` runs."""

    setting: Annotated[Setting, Flat] = field(default_factory=Setting)
    """Data, network, objective and training."""
    claims: tuple[ClaimId, ...] | None = None
    """Claims to run; by default all, with --quick the first seven. Negative controls are always run."""
    seeds: str | None = None
    """How many seeds, or a range such as 10:20: a share, which is merged with what the folder has. By default 20 seeds,
    with --quick 5."""
    quick: bool = False
    """The first seven claims with 5 seeds: at most two minutes on two cores."""
    scale_k: tuple[int, ...] | None = None
    """Numbers of classes that the claim `scale` compares; by default 10, 20, 50 ... up to k, 10 and 20 at least."""

    @property
    def classes(self) -> tuple[int, ...]:
        """`scale_k`, the default resolved."""
        return tuple(sorted(set(self.scale_k or classes_up_to(self.setting.data.k))))


def theory(out: str | Path = "runs/theory", settings: TheorySettings | None = None) -> dict[str, Any]:
    """Run the claims and leave claims.json, arrays.npz and report.html in `out`; returns claims.json's content.

    What was computed is kept a seed at a time: the same call continues, further claims and seeds are added, and a share
    of the seeds (``seeds="10:20"``) gives the numbers that it has among all. Raises WhymaskError when `out` holds a run
    of another setting, and for settings that cannot be run.
    """
    settings, out = settings or TheorySettings(), Path(out)
    setting, seeds, ids = settings.setting, parse_seeds(settings), _ids(settings)
    for k in settings.classes if "scale" in ids else ():
        setting.with_data(k=k)  # a k that cannot be run is told now, not after hours
    if setting.q < 3:
        say(f"warning: q={setting.q:g} lies outside the theorems, which need q >= 3")
    compared = asdict(replace(setting, device="auto", threads=None, budget=1.0))
    folder = RunFolder.open(out, compared, provenance(setting.torch_device.type, f"{setting.precision}-true"))
    done, store = _Done(out / "seeds"), Store(out / "arrays", setting.workers)
    for id in ids:
        if len(set(seeds) | set(done.seeds(id))) < 2:
            raise WhymaskError(f"--seeds {settings.seeds}: an interval over seeds needs at least 2. Give more.")

    @cache
    def judged(id: str, seeds: tuple[int, ...], classes: tuple[int, ...]) -> list[Claim]:
        lab = Lab(setting, seeds, store)
        return scale(lab, classes) if id == "scale" else CLAIMS[id](lab) if id in CLAIMS else controls(lab)

    for id in (*ids, CONTROLS):
        began = time.perf_counter()
        judged(id, tuple(seeds), settings.classes)
        done.add(id, seeds, (time.perf_counter() - began) / len(seeds), settings.classes)
    classes = done.classes()
    claims = [claim for id in CLAIMS if done.seeds(id) for claim in judged(id, done.seeds(id), classes)]
    table = {
        "schema": SCHEMA,
        "setting": describe(setting) | {"scale_k": classes},
        "claims": [asdict(claim) for claim in claims],
        "controls": [asdict(claim) for claim in judged(CONTROLS, done.seeds(CONTROLS), classes)],
        "seeds": sorted({seed for id in CLAIMS for seed in done.seeds(id)}),
        "idealisations": list(IDEALISATIONS),
        "provenance": folder.provenance,
        "seconds": done.seconds(),
    }
    _write(folder, table, Lab(setting, done.seeds(CONTROLS), store))
    _show(claims)
    say(f"The page: {out / 'report.html'}")
    return table


def parse_seeds(settings: TheorySettings) -> list[int]:
    """ "20" is 0 to 19; "10:20" is 10 to 19. Raises WhymaskError for anything else."""
    text = settings.seeds or ("5" if settings.quick else "20")
    first, colon, last = text.partition(":")
    try:
        seeds = list(range(int(first), int(last))) if colon else list(range(int(first)))
    except ValueError:
        seeds = []
    if not seeds or seeds[0] < 0 or (not colon and len(seeds) < 2):
        raise WhymaskError(
            f"--seeds {text}: expected was a number of at least 2, as an interval over seeds needs, or a range such as "
            "10:20."
        )
    return seeds


def describe(setting: Setting) -> dict[str, Any]:
    """All settings with their defaults resolved."""
    resolved: dict[str, Any] = asdict(setting) | {"K": setting.K, "tau": setting.teacher, "horizon": setting.horizon}
    resolved |= {name: setting.rate(name) for name in resolved if name.endswith("_rate") and name != "pixel_rate"}
    resolved |= {"N": setting.images, "batches": setting.together, "growth_threshold": setting.threshold}
    data = setting.data
    resolved["data"] |= {"d": data.width, "P": data.patches, "sigma": data.noise}
    return resolved


def _ids(settings: TheorySettings) -> list[str]:
    if settings.claims is not None and not settings.claims:
        raise WhymaskError(f"no claim was given; one or more of {', '.join(CLAIMS)} was expected.")
    chosen: Sequence[str] = settings.claims or (QUICK if settings.quick else list(CLAIMS))
    unknown = set(chosen) - set(CLAIMS)
    if unknown:
        raise WhymaskError(f"no such claim: {', '.join(sorted(unknown))}; there are {', '.join(CLAIMS)}.")
    return [id for id in CLAIMS if id in chosen]


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
            write_json(path, known)

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
    write_json(folder.path / "claims.json", table)
    write_arrays(folder.path / "arrays.npz", _arrays(lab))
    write_theory_page(folder.path)
    folder.finish({"holds": [[claim["id"], claim["clock"], claim["holds"]] for claim in table["claims"]]})


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
            arrays[f"{name}/captured"] = numpy(captured(trained.network, lab.features, lab.setting.horizon))
        elif name.startswith("fixed"):
            arrays[f"{name}/own_overlap"] = numpy(own_overlap(trained.network, lab.features, lab.data.L))
    return arrays


def _show(claims: Sequence[Claim]) -> None:
    for claim in claims:
        verdict = {True: "holds", False: "does not hold", None: "no threshold"}[claim.holds]
        clock = f" ({claim.clock} clock)" if claim.clock else ""
        measured = "nothing to measure" if claim.measured is None else f"{claim.measured:.3f}"
        interval = "" if claim.low is None else f" ({claim.low:.3f} to {claim.high:.3f})"
        say(f"{claim.id}{clock}: {measured}{interval}, {verdict}")
