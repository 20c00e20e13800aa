"""What fine-tuning preserves, and what never comes from scratch, in interactions (Jiang et al., arXiv 2410.08455).

Theirs, of which the abstract was read, and a summary of others: interactions of input parts in the log-odds (memory);
only a small amount of what the pretrained network knows, as a linear probe reads it, is preserved; what is preserved is
hard to learn from scratch; and fine-tuning finds its final interactions faster. Ours [D]: the lab, in which a logit has
no interaction of two parts, all similarities, controls and thresholds, which were fixed before anything was run.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from whymask.randomness import torch_generator
from whymask.report.figures import draw, legend_above
from whymask.report.text import known
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, at_most, averaged, finding, mean_share, named
from whymask.theory.data import Sample
from whymask.theory.descent import MiniBatchDescent
from whymask.theory.harsanyi import (
    MOST,
    coalitions,
    dividends,
    effects,
    every_coalition,
    log_odds,
    of_log_odds,
    shared,
    similarity,
)
from whymask.theory.lab import Lab, Start
from whymask.theory.measures import TINY
from whymask.theory.network import Network
from whymask.theory.objectives import CrossEntropy
from whymask.theory.page.figures import BLUE, GREEN, ORANGE
from whymask.theory.store import Arrays, numpy
from whymask.theory.watched import Watched

ID = "interactions"
SEEDS = 10
IMAGES = 50
"""Multi-view test images, the same for every seed."""
REACHED = 0.9
"""Similarity to the final interactions at which, and from then on, they count as reached."""
EQUAL_LOSS = 1.0
"""Training loss at which similarities are compared, too."""
SMALL = 0.5
"""What is preserved is "a small amount" if it is at most so much."""
ROUNDING = 1e-6
CALIBRATED = 2
"""Images of which networks are shown every coalition's part."""
STRENGTH = "share of the interactions' strength that is of two players or more"
SCRATCH, PRETRAINED = "from scratch", "pretrained, own clock"
AT_ITS_RATES = f"{PRETRAINED}, at scratch's rates"
RESIZED = "random of equal norms, at scratch's rates"
PROBED = "frozen, own clock"
"""The pretrained network as a linear head reads it."""


def interactions(lab: Lab) -> list[Finding]:
    """Networks along their epochs, and frozen ones; players are the places of features."""
    lab = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    s = lab.regime
    usual = {name: (s.rate(f"{name}kernel_rate"), s.rate(f"{name}head_rate")) for name in ("", "tuning_")}
    trained: dict[str, tuple[Start, tuple[float, float]]] = {
        SCRATCH: ("random", usual[""]),
        PRETRAINED: ("own", usual["tuning_"]),
        "pretrained, normalised targets": ("normalised", usual["tuning_"]),
        AT_ITS_RATES: ("own", usual[""]),
        RESIZED: ("resized", usual[""]),
    }
    seen = {
        name: lab.kept(f"along-{_file(name)}", partial(_along, lab, lab.beginning(start), rates))
        for name, (start, rates) in trained.items()
    }
    networks = {name: _network(lab, arrays) for name, arrays in seen.items()}
    networks |= {PROBED: lab.read_out("own").network}
    whole, whose = _whole(lab), owners(lab)
    last = {name: effects(network, whole, whose) for name, network in networks.items()}
    found = {name: of_log_odds(brought, whole.labels[0])[..., 1:] for name, brought in last.items()}  # but of nobody
    own = {name: _of_class(brought, whole.labels[0]) for name, brought in last.items()}
    return [_calibrated(lab, networks, found), _sooner(seen), _never(lab, own, found), _preserved(found)]


def _network(lab: Lab, arrays: Arrays) -> Network:
    kernels, head = (torch.from_numpy(arrays[key]).to(lab.regime.torch_device) for key in ("kernels", "head"))
    return Network(kernels, head, sigma=lab.regime.sigma)


def owners(lab: Lab) -> Tensor:
    """Whose each patch is, (P,): a player is a place of a feature, those of the class first; the last one has the rest
    of the image."""
    data = lab.data
    players = min(MOST, data.places)
    return (torch.arange(data.patches) // data.C_p).clamp_max(players - 1).to(lab.regime.torch_device)


def _whole(lab: Lab) -> Sample:
    drawn = replace(lab.data, copied=False).draw(torch_generator("interactions"), IMAGES, "multi")
    return drawn.to(lab.regime.torch_device, lab.regime.dtype)


def _along(lab: Lab, begin: Callable[[list[int]], Network], rates: tuple[float, float], seeds: list[int]) -> Arrays:
    """Trained to the loss from kernels that are a function of the seeds: "kernels" and "head"; by epoch, the first
    being the untrained network, the "similarity" to the final interactions and that of players' effects on the logit,
    "single", (S, T + 1), and the training loss, "losses" (S, T); epochs "taken" (S,)."""
    whole, samples, seen = _whole(lab), lab.images(seeds), []
    training = MiniBatchDescent({"kernels": rates[0], "head": rates[1]}, lab.regime.target, lab.regime.epochs)
    watched = Watched(CrossEntropy(), len(samples), lambda network: seen.append(effects(network, whole, owners(lab))))
    first = begin(seeds).with_head(lab.data.k, "learned")
    path = training.run(first, watched, samples, lab.features)  # whose last look is at the loss of the last network
    last, labels = seen[-1], whole.labels[0]
    final = of_log_odds(last, labels)[..., 1:]
    near = [similarity(of_log_odds(brought, labels)[..., 1:], final) for brought in seen]
    single = [similarity(*(_of_class(of, labels) for of in (brought, last))) for brought in seen]
    return {
        "kernels": numpy(path.network.kernels),
        "head": numpy(path.network.own_head),
        "similarity": numpy(torch.stack(near, 1)),
        "single": numpy(torch.stack(single, 1)),
        "losses": numpy(torch.stack(path.losses, 1)),
        "taken": numpy(path.taken) / len(samples),
    }


def _of_class(brought: Tensor, labels: Tensor) -> Tensor:
    """What players bring to the logit of the image's class, (S, B, G)."""
    chosen = labels[None, :, None, None].expand(*brought.shape[:3], 1)
    return brought.gather(3, chosen)[..., 0]


def _calibrated(lab: Lab, networks: dict[str, Network], found: dict[str, Tensor]) -> Finding:
    """By v's definition, of networks that see images of which only some players are left. A logit has no interaction
    of two of them; nor have the log-odds of two classes, a difference of logits. What the log-odds of more classes
    have of them is softmax's own."""
    whole, whose = _whole(lab).part(slice(None), slice(0, CALIBRATED)), owners(lab)
    labels, several = whole.labels[0], coalitions(int(whose.max()) + 1)[1:].sum(1).to(whose.device) > 1
    rows, largest, off = [], [], []
    for name, network in networks.items():
        logits = every_coalition(network, whole, whose)  # (S, B, 2^G, k)
        right = labels[None, :, None, None].expand(*logits.shape[:3], 1)
        of_class = logits.gather(3, right)[..., 0]
        other = logits[:, :, -1:].scatter(3, right[:, :, -1:], -torch.inf).argmax(3, keepdim=True).expand_as(right)
        pair = of_class - logits.gather(3, other)[..., 0]
        by_definition = dividends(log_odds(logits, right[..., 0]))[..., 1:]
        off.append((by_definition - found[name][:, :CALIBRATED]).abs().amax((1, 2)))
        largest.append(_share(dividends(of_class)[..., 1:], several))
        shares = {"two classes": _share(dividends(pair)[..., 1:], several), "all classes": _share(found[name], several)}
        for classes, share in shares.items():
            rows.append(named(f"{name}, log-odds of {classes}", mean_share(STRENGTH, numpy(share))))
    row = averaged(f"a logit: {STRENGTH}, the largest of all networks", numpy(torch.stack(largest).amax(0)))
    rows.append(
        averaged("interactions by effects of players minus those by definition", numpy(torch.stack(off).amax(0)))
    )
    predicted = "a logit has no interaction of two parts or more: those of log-odds are softmax's own"
    return finding(ID, "[D], a control", predicted, at_most(row, ROUNDING), rows)


def _share(found: Tensor, chosen: Tensor) -> Tensor:
    """Of the strength of interactions (S, B, 2^G - 1), sum |I|, that of chosen coalitions: (S,)."""
    strength = found.abs().sum(1)
    return strength[:, chosen].sum(1) / strength.sum(1).clamp_min(TINY)


def _sooner(seen: dict[str, Arrays]) -> Finding:
    epochs = {name: _reached(arrays["similarity"]) for name, arrays in seen.items()}
    what = f"epochs until interactions are, and stay, {REACHED:g} similar to the final ones"
    main, *rows = [
        averaged(f"{what}: {SCRATCH} minus {name}", epochs[SCRATCH] - values, 0.0)
        for name, values in epochs.items()
        if name != SCRATCH
    ]
    rows.append(averaged(f"{what}: {RESIZED}, minus {AT_ITS_RATES}", epochs[RESIZED] - epochs[AT_ITS_RATES], 0.0))
    for name, arrays in seen.items():
        taken, early = arrays["taken"], np.array([_first(curve <= EQUAL_LOSS) for curve in arrays["losses"]])
        at_loss = np.take_along_axis(arrays["similarity"], early[:, None] + 1, 1)[:, 0]
        of = [
            averaged(what, epochs[name]) | {"curve": _curve(arrays["similarity"].mean(0))},
            averaged("epochs to the loss", taken),
            mean_share("the first as a share of the second", np.minimum(epochs[name] / taken, 1)),
            averaged("epochs, effects of single players on the logit alone", _reached(arrays["single"])),
            mean_share(f"similarity where the training loss is first at most {EQUAL_LOSS:g}", at_loss),
        ]
        rows += [named(name, row) | {"network": name} for row in of]
    predicted = "fine-tuning is near its final interactions after fewer epochs than training from scratch"
    return finding(ID, "Jiang et al. (abstract read); measure and threshold [D]", predicted, main, rows)


def _reached(near: np.ndarray) -> np.ndarray:
    """The first of the epochs from which on a similarity (S, T + 1) is at least `REACHED`, (S,)."""
    below = [np.flatnonzero(curve < REACHED) for curve in near]
    return np.array([places[-1] + 1 if len(places) else 0 for places in below], dtype=float)


def _first(holds: np.ndarray) -> int:
    """Where it first holds, or the last place where it never does. (T,) bool."""
    return int(holds.argmax()) if holds.any() else len(holds) - 1


def _curve(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def _never(lab: Lab, own: dict[str, Tensor], found: dict[str, Tensor]) -> Finding:
    """Of an image's own features, what the least brings to the logit of its class relative to what the most does: 1 if
    all count alike, 0 if the class is recognised by one. A logit's effects are no matter of softmax."""
    least = {name: _least(brought, lab.data.L) for name, brought in own.items()}
    what = "what the weakest feature of an image's class brings to its logit over what the strongest does"
    main, *rows = [
        averaged(f"{what}: {name} minus {SCRATCH}", values - least[SCRATCH], 0.0)
        for name, values in least.items()
        if name.startswith(PRETRAINED)
    ]
    rows.append(averaged(f"{what}: {AT_ITS_RATES}, minus {RESIZED}", least[AT_ITS_RATES] - least[RESIZED], 0.0))
    rows += [named(name, averaged(what, values)) for name, values in least.items()]
    share = "share of its interactions that {} has at its end"
    for name in (PRETRAINED, RESIZED):
        missing = _kept(found[name], found[SCRATCH])
        rows.append(named(name, mean_share(share.format("the network from scratch"), missing)))
    for name in (PRETRAINED, SCRATCH):
        rows.append(
            named(name, mean_share(share.format("its like of the next seed"), _kept(found[name], _next(found[name]))))
        )
    predicted = "fine-tuned networks rest on all features of a class, those from scratch leave some that never come"
    return finding(ID, "Jiang et al. (abstract read); measure and threshold [D]", predicted, main, rows)


def _least(brought: Tensor, L: int) -> np.ndarray:
    """(S,), the mean over images of what players bring (S, B, G), of the first L the least over the most."""
    own = brought[:, :, :L]
    return numpy((own.amin(2).clamp_min(0) / own.amax(2).clamp_min(TINY)).clamp_max(1).mean(1))


def _kept(one: Tensor, other: Tensor) -> np.ndarray:
    """Of the strength of one's interactions (S, B, 2^G - 1), what the other has too: (S,)."""
    return numpy(shared(one, other).sum((1, 2)) / one.abs().sum((1, 2)).clamp_min(TINY))


def _next(found: Tensor) -> Tensor:
    """Those of the next seed."""
    return found.roll(1, 0)


def _preserved(found: dict[str, Tensor]) -> Finding:
    probed, tuned, scratch = (found[name] for name in (PROBED, PRETRAINED, SCRATCH))
    main = at_most(
        mean_share("share of the probed network's interactions that fine-tuning keeps", _kept(probed, tuned)), SMALL
    )
    both = shared(probed, tuned) * tuned.sign()
    rows = [
        mean_share("of what is kept, share that the network from scratch has at its end", _kept(both, scratch)),
        mean_share("of what fine-tuning adds, share that it has", _kept(tuned - both, scratch)),
        mean_share("share of the fine-tuned network's interactions that are kept ones", _kept(tuned, probed)),
        mean_share("share of the probed network's interactions that the next seed's has", _kept(probed, _next(probed))),
    ]
    predicted = f"of what a linear head reads from pretrained kernels fine-tuning preserves little, at most {SMALL:g}"
    return finding(ID, "Jiang et al. (abstract read); the number [D]", predicted, main, rows)


def _file(name: str) -> str:
    return name.replace("'", "").replace(", ", "-").replace(" ", "-")


def along_epochs(told: Told) -> list[Picture]:
    rows = [row for row in told.rows if isinstance(row.get("curve"), list) and all(map(known, row["curve"]))]
    if not rows:
        return []

    def paint(axes: Axes) -> None:
        for colour, row in zip(COLOURS, rows, strict=False):
            axes.plot(row["curve"], color=colour, label=str(row.get("network")))
        axes.set_xlabel("epochs")
        axes.set_ylabel("similarity")
        legend_above(axes)

    return [
        Picture(
            "theory-interactions",
            "Interactions along the epochs: similarity to the final ones",
            draw("theory-interactions", 3.6, paint),
        )
    ]


COLOURS = (ORANGE, BLUE, GREEN, "#8a5fbf", "#777777")

INTERACTIONS = Claim(
    id=ID,
    title="Fine-tuning reaches its interactions sooner, and keeps little of what was pretrained",
    test=interactions,
    section=Section(
        id="interactions",
        title="How soon a network has its final interactions",
        reading="What places of an image bring to the log-odds of its class, alone and together, beside what they "
        "bring at the end of training: 1 is the same. A mean over seeds; a seed that has stopped stays as it is.",
        draw=along_epochs,
    ),
)
