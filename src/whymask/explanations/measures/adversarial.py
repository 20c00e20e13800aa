"""Adversarial robustness: how far the worst small change of an image moves a network, and what the head makes of it.

Nern et al. (arXiv 2208.03835) show that a linear head on an encoder is as robust as the features that it reads: its
loss can rise by no more than a Lipschitz constant of the head times how far these move. So robustness carries over from
an encoder to what is built on it. Here images are changed by projected gradient ascent (Madry et al., arXiv 1706.06083)
on the cross-entropy of each network itself, and what happens stands beside that bound, and beside what random noise as
large does.

Of features phi, logits W phi + b and any class, the gradient of the cross-entropy by the logits is no longer than
sqrt(2) and sums to 0, so the bound is sqrt(2) |W - mean of its rows| |phi' - phi|, with the operator norm of W.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from whymask.explanations.cast import Cast
from whymask.explanations.drawing import MAIN, Told, levelled, lines, select
from whymask.explanations.measure import Drawing, Expectation, Measure, numbers_of, of_each
from whymask.explanations.networks import Member
from whymask.explanations.numbers import Key, Number, Scores
from whymask.explanations.shown import Shown
from whymask.intervals import ANYTHING, Range
from whymask.randomness import torch_generator
from whymask.report.figures import label_below, legend_above, make

NAME = "adversarial"
ACCURACY, STILL, INCREASE = "accuracy", "still recognised", "loss increase"
SHIFT, RELATIVE_SHIFT, BOUND = "feature shift", "relative feature shift", "bound of the loss increase"
MEAN = " mean"
"""Of "still recognised": the mean over `EPS`."""

Norm = Literal["L-inf", "L2"]
NORMS: tuple[Norm, ...] = ("L-inf", "L2")
ATTACK, NOISE = CHANGES = ("attack", "noise")
EPS = (1 / 255, 2 / 255, 4 / 255)
"""Sizes of a change, in units of the pixels' range 0..1: the largest change of a value in L-inf, the root mean square
of all changes in L2 (of 32 x 32 pixels in colour, 1/255 is a Euclidean norm of 0.22)."""
STEPS = 20
STEP = 2.5
"""Times eps, over `STEPS`: the length of a step."""

Losses = Callable[[Tensor], Tensor]
"""Pixels (B, C, h, w) -> the loss of each (B,)."""


def of(quantity: str, norm: Norm, change: str) -> str:
    """The name of a quantity under an attack, or noise, of a norm."""
    return f"{quantity}, {norm} {change}"


RANGES: dict[str, Range] = {
    of(quantity, norm, change): ANYTHING if (quantity, change) == (INCREASE, NOISE) else (0.0, None)
    for quantity in (INCREASE, SHIFT, RELATIVE_SHIFT, BOUND)
    for norm in NORMS
    for change in CHANGES
}
"""Of the quantities that are no shares. No attack lowers the loss: it may leave an image as it is."""


def take(cast: Cast, shown: Shown) -> list[Number]:
    some = shown.first(shown.settings.adversarial_images)

    def scores(network: Member) -> Scores:
        return adversarial_scores(network, some.images, some.labels)

    return numbers_of(NAME, cast, of_each(NAME, cast, scores), some.groups, RANGES)


def adversarial_scores(network: Member, images: Tensor, labels: Tensor) -> Scores:
    """On images (n, C, h, w): "accuracy"; of each norm, under attack and noise `at` every eps, "accuracy"; "still
    recognised", of the images that are recognised as they are; "loss increase" in nats; "feature shift", the Euclidean
    norm by which what the head reads moves, and "relative", in norms of that; the "bound of the loss increase".

    Every network has the same noise, and its attack the same random start.
    """
    view = network.preprocessing
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (view.mean, view.std))
    pixels = (images * std + mean).clamp(0, 1)
    see = partial(_seen, network, network.there(mean), network.there(std))
    lipschitz = head_lipschitz(network.classifier.head.weight)
    whole = network.recognises(images, labels).double().numpy()
    scores: Scores = {Key(ACCURACY): whole}
    for norm in NORMS:
        start, noise = starts(norm, pixels.shape), noises(norm, pixels.shape)
        for eps in EPS:
            compute = partial(_compared, network, see, norm, eps)
            found = network.together("attack", compute, pixels, labels, start, noise).double().cpu().numpy()
            for change, (right, rise, shift, relative) in zip(CHANGES, found.transpose(1, 2, 0), strict=True):
                scores[Key(of(ACCURACY, norm, change), at=eps)] = right
                scores[Key(of(STILL, norm, change), at=eps)] = np.where(whole == 1, right, np.nan)
                scores[Key(of(INCREASE, norm, change), at=eps)] = rise
                scores[Key(of(SHIFT, norm, change), at=eps)] = shift
                scores[Key(of(RELATIVE_SHIFT, norm, change), at=eps)] = relative
                scores[Key(of(BOUND, norm, change), at=eps)] = lipschitz * shift
        for change in CHANGES:
            name = of(STILL, norm, change)
            scores[Key(name + MEAN)] = np.mean([scores[Key(name, at=eps)] for eps in EPS], axis=0)
    return scores


def _compared(
    network: Member,
    see: Callable[[Tensor], tuple[Tensor, Tensor]],
    norm: Norm,
    eps: float,
    pixels: Tensor,
    labels: Tensor,
    start: Tensor,
    noise: Tensor,
) -> Tensor:
    """Of a batch, for attack and noise: whether each image is recognised, by how much its loss is higher, and how far
    its features moved, absolutely and relatively: float64 (B, 2, 4)."""
    pixels, labels, start, noise = map(network.there, (pixels, labels, start, noise))
    attacked = attack(lambda shown: _cross_entropy(see(shown)[1], labels), pixels, start, eps, norm)
    with torch.inference_mode():
        features, logits = see(pixels)
        before, columns = _cross_entropy(logits, labels), []
        for changed, least in ((attacked, 0.0), ((pixels + eps * noise).clamp(0, 1), -torch.inf)):
            moved, said = see(changed)
            shift, length = (moved - features).norm(dim=1), features.norm(dim=1)
            rise = (_cross_entropy(said, labels) - before).clamp(min=least)  # of an attack, by rounding alone
            columns.append(torch.stack([said.argmax(1) == labels, rise, shift, shift / length.clamp(min=1e-12)], dim=1))
    return torch.stack(columns, dim=1)


def attack(losses: Losses, pixels: Tensor, start: Tensor, eps: float, norm: Norm, steps: int = STEPS) -> Tensor:
    """The change of each image of highest loss that projected gradient ascent finds: pixels (B, C, h, w) in 0..1, no
    further than `eps` from `pixels`, and of no lower loss than these and the start.

    Args:
        start: where it begins, relative to `pixels` and in units of eps, (B, C, h, w); see `starts`.
    """
    best, highest = pixels, losses(pixels).detach()
    changed = (pixels + eps * start).clamp(0, 1)
    for step in range(steps + 1):
        with torch.enable_grad():
            loss = losses(changed.requires_grad_())
        higher = loss.detach() > highest
        highest = torch.where(higher, loss.detach(), highest)
        best = torch.where(higher[:, None, None, None], changed.detach(), best)
        if step < steps:
            (gradient,) = torch.autograd.grad(loss.sum(), changed)
            further = changed.detach() + STEP * eps / steps * uphill(gradient, norm) - pixels
            changed = (pixels + within(further, eps, norm)).clamp(0, 1)
    return best


def uphill(gradient: Tensor, norm: Norm) -> Tensor:
    """The steepest change of size 1 of each image, (B, C, h, w); 0 where there is no gradient."""
    if norm == "L-inf":
        return gradient.sign()
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)  # squares of tiny gradients would be 0
    return unit(gradient / torch.where(largest > 0, largest, 1))


def within(change: Tensor, eps: float, norm: Norm) -> Tensor:
    """The changes (B, C, h, w), those of a larger size than `eps` brought to it."""
    if norm == "L-inf":
        return change.clamp(-eps, eps)
    return change * (eps / size(change).clamp(min=1e-12)).clamp(max=1)


def size(change: Tensor) -> Tensor:
    """Root mean square of each image's change (B, C, h, w): (B, 1, 1, 1)."""
    return change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def unit(change: Tensor) -> Tensor:
    """Each change at the root mean square 1; 0 stays 0."""
    length = size(change)
    return change / torch.where(length > 0, length, 1)


def starts(norm: Norm, shape: torch.Size) -> Tensor:
    """Where attacks on images of `shape` begin, uniform in the ball of eps 1."""
    generator = torch_generator(0, "adversarial start", norm)
    if norm == "L-inf":
        return 2 * torch.rand(shape, generator=generator) - 1
    radius = torch.rand(shape[0], 1, 1, 1, generator=generator) ** (1 / shape[1:].numel())
    return radius * unit(torch.randn(shape, generator=generator))


def noises(norm: Norm, shape: torch.Size) -> Tensor:
    """Random changes of size 1: signs, or a direction."""
    generator = torch_generator(0, "adversarial noise", norm)
    drawn = torch.randn(shape, generator=generator)
    return torch.where(drawn < 0, -1.0, 1.0) if norm == "L-inf" else unit(drawn)


def head_lipschitz(weight: Tensor) -> float:
    """By how much the cross-entropy of a linear head (classes, D) can rise as its features move by 1: sqrt(2) times the
    operator norm of its weights less their mean over classes, which softmax does not see."""
    centred = weight.detach().double().cpu() if weight.device.type == "mps" else weight.detach().double()
    return float(2**0.5 * torch.linalg.matrix_norm(centred - centred.mean(dim=0), 2))


def _seen(network: Member, mean: Tensor, std: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """What the head reads (B, D), and its logits (B, k), of pixels in 0..1, on the network's device."""
    model = network.classifier
    features = model.norm(model.encoder.pool(model.encoder(network.see((pixels - mean) / std))))
    return features.float(), model.head(features).float()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,), in float64 where there is one: of a sure network the gradient would be 0 else."""
    exact = logits if logits.device.type == "mps" else logits.double()
    return F.cross_entropy(exact, labels, reduction="none")


def curves(told: Told, name: str) -> dict[str, Figure]:
    """Of each norm: accuracy against eps; and of the two that are compared the rise of the loss, beside its bound."""
    clean = {row["arm"]: row for row in select(told, NAME, ACCURACY)}
    if not clean:
        return {}
    nothing = {arm: {"at": 0.0, "value": 0.0, "low": 0.0, "high": 0.0} for arm in clean}
    main = {arm["name"] for arm in told["arms"] if arm["role"] in MAIN}

    def panel(quantity: str, beside: str, norm: Norm, left: str, *, accuracy: bool) -> Figure:
        rows = select(told, NAME, quantity)
        rows = rows if accuracy else [row for row in rows if row["arm"] in main]
        dotted = [row for row in select(told, NAME, beside) if row["arm"] in main]

        def paint(figure: Figure) -> None:
            axes = figure.subplots()
            lines(axes, told, rows, clean if accuracy else nothing)
            lines(axes, told, dotted, clean if accuracy else nothing, dotted=True)
            label_below(figure, f"{norm} size of the change,\nof the pixels' range 0 to 1")
            axes.set_ylabel(left)
            axes.set_xticks((0, *EPS), ["0", *(f"{255 * eps:.0f}/255" for eps in EPS)])
            if not accuracy:
                _in_decades(axes)
            legend_above(axes)

        return make(name, 3.7, paint)

    accuracies, losses = {}, {}
    for norm in NORMS:
        right, noisy = (of(ACCURACY, norm, change) for change in CHANGES)
        accuracies[f"accuracy, {norm}"] = panel(right, noisy, norm, "accuracy\n(dotted: random noise)", accuracy=True)
        rise, bound = of(INCREASE, norm, ATTACK), of(BOUND, norm, ATTACK)
        losses[f"loss, {norm}"] = panel(rise, bound, norm, "rise of the loss\n(dotted: its bound)", accuracy=False)
    return levelled(accuracies) | levelled(losses)


def _in_decades(axes: Axes) -> None:
    """From 0 up, and above 0.1 in decades."""
    axes.set_yscale("symlog", linthresh=0.1)
    top = axes.get_ylim()[1]
    decades = [0, *(10.0**power for power in range(-1, 9) if 10.0**power <= top)]
    axes.set_yticks(decades, [f"{value:g}" for value in decades])
    axes.set_ylim(0, top)


ADVERSARIAL = Measure(
    name=NAME,
    title="Adversarial robustness",
    about=f"Each image is changed so that the network's loss rises most, by {STEPS} steps of projected gradient ascent "
    "of length 2.5 eps / steps from a random start (PGD). eps is in units of the pixels' range 0 to 1: the largest "
    "change of a value in L-inf, the root mean square of all in L2. Noise: random changes as large. Still recognised: "
    "of the images recognised as they are. The loss can rise by no more than its bound: how far what the head reads "
    "moves, times sqrt(2) and the operator norm of the head's weights (cross-entropy; the weights less their mean over "
    "classes). Shifts of networks of other scale are compared relatively. Stronger attacks may find more.",
    take=take,
    expectations=(
        Expectation(
            quantities=tuple(of(STILL, norm, ATTACK) + MEAN for norm in NORMS),
            hides=True,
            supported="{ours} withstand adversarial changes better than {theirs}.",
            against="{theirs} withstand adversarial changes better than {ours}.",
            open="Whether {ours} withstand adversarial changes better than {theirs} is not certain.",
        ),
    ),
    figures={"adversarial": Drawing("Under adversarial changes (PGD)", curves)},
)
