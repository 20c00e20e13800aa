"""Is it pretraining that escapes the lottery, or masking? Supervised training on masked and on mixed images [D]."""

from collections.abc import Callable, Sequence
from functools import partial

from whymask.theory.augmented import Masked, Mixed
from whymask.theory.claims.claim import Claim
from whymask.theory.claims.downstream import gain_row
from whymask.theory.claims.record import Finding, Row, finding, mean_share
from whymask.theory.lab import Lab
from whymask.theory.objectives import Trainable

ID = "augmentation"
SEEDS = 5
Augmented = Callable[[Sequence[int]], Trainable]


def augmentation(lab: Lab) -> list[Finding]:
    """Learned heads from scratch, of which each image is masked or mixed at each step, to the same loss on whole
    images; and for all epochs."""
    lab = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    objectives: dict[str, Augmented] = {"masked": partial(Masked, lab.regime.theta), "mixed": Mixed}
    pretrained, scratch = lab.classifier("learned", "own"), lab.classifier("learned", "random")
    rows = [
        mean_share("single-view accuracy, pretrained", lab.accuracy(pretrained.network, "single")),
        mean_share("single-view accuracy, from scratch", lab.accuracy(scratch.network, "single")),
    ]
    gains = {}
    for name, objective in objectives.items():
        net = lab.classifier("learned", "random", tag=f"-{name}", augmented=objective)
        rows.append(
            mean_share(f"single-view accuracy, from scratch on {name} images", lab.accuracy(net.network, "single"))
        )
        gains[name] = gain_row(lab, pretrained, net, f"learned head, supervised on {name} images", 0.0)
        rows.append(gain_row(lab, net, scratch, f"learned head, {name} minus whole images: as pretrained"))
    predicted = "pretraining gains more than training from scratch on masked images does, at equal loss"
    main = gains.pop("masked")
    return [finding(ID, "[D], a control", predicted, main, [*rows, *gains.values(), *_long(lab, objectives["masked"])])]


def _long(lab: Lab, masked: Augmented) -> list[Row]:
    """All epochs, whatever the loss."""
    nets = {
        "masked": lab.classifier("learned", "random", tag="-masked-long", augmented=masked, target=0.0),
        "whole": lab.classifier("learned", "random", tag="-long", target=0.0),
    }
    return [
        mean_share(
            f"single-view accuracy, {lab.regime.epochs} epochs from scratch on {name} images",
            lab.accuracy(net.network, "single"),
        )
        for name, net in nets.items()
    ]


AUGMENTATION = Claim(ID, "Pretraining gains more than masking in supervised training", augmentation)
