"""Is it what pretraining finds, or how long it makes kernels? Random kernels of equal norms, and frozen ones [D]."""

import numpy as np

from whymask.theory.claims.claim import Claim
from whymask.theory.claims.coverage import captured_row
from whymask.theory.claims.downstream import accuracy_rows, at_scale, gain_row
from whymask.theory.claims.record import Finding, Row, averaged, finding, mean_share, named
from whymask.theory.lab import Lab, Trained
from whymask.theory.store import numpy

ID = "norms"
SCALES = (0.03, 0.1, 0.3)
SEEDS = 5
PATIENCE = 5
"""Times the epochs after which a classifier stops anyway: at fine-tuning's small steps random kernels need more."""


def norms(lab: Lab) -> list[Finding]:
    """Fine-tuned alike: kernels that pretraining made, and random ones, each brought to the norm of one of these."""
    lab = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    pretrained, resized = lab.classifier("learned", "own"), of_equal_norms(lab)
    lengths = {"first": lab.start().kernels, "pretrained": lab.pretrained("own").network.kernels}
    rows = [
        averaged(f"median norm of {name} kernels", np.median(numpy(kernels.norm(dim=2)), axis=1))
        for name, kernels in lengths.items()
    ]
    rows += accuracy_rows(lab, resized, "learned", "resized")
    single = [lab.accuracy(net.network, "single") for net in (pretrained, lab.read_out())]
    rows.append(averaged("single-view accuracy, pretrained minus frozen random kernels", single[0] - single[1]))
    main = gain_row(lab, pretrained, resized, "learned head, random kernels of equal norms", 0.0)
    predicted = "at equal norms of the kernels, pretrained ones are better than random ones, fine-tuned alike"
    return [finding(ID, "[D], a control", predicted, main, [*rows, *_by_scale(lab)])]


def of_equal_norms(lab: Lab) -> Trained:
    """Random kernels, each brought to the norm of one that pretraining made, fine-tuned as these are."""
    return lab.classifier("learned", "resized", epochs=PATIENCE * lab.regime.epochs)


def _by_scale(lab: Lab) -> list[Row]:
    """Where first kernels are larger, training from scratch escapes the lottery by itself."""
    rows = []
    for scale in SCALES:
        there = at_scale(lab, scale, lab.seeds)
        scratch, pretrained = there.classifier("learned", "random"), there.classifier("learned", "own")
        found = [
            mean_share("single-view accuracy from scratch", there.accuracy(scratch.network, "single")),
            captured_row(there, there.pretrained("own")),
            gain_row(there, pretrained, scratch, "learned head"),
        ]
        rows += [named(f"scale {scale:g}", row) | {"scale": scale} for row in found]
    return rows


NORMS = Claim(ID, "Pretrained kernels beat random ones of equal norms", norms)
