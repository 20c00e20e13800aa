"""Claim 8: features that pretraining data lack are not captured [P's assumption], and accuracy rises with the share of
features that they show [D]."""

import numpy as np

from whymask.theory.claims.record import Claim, averaged, claim, pooled
from whymask.theory.lab import Lab
from whymask.theory.measures import captured
from whymask.theory.store import numpy

SHARES = (0.25, 0.5, 0.75, 1.0)
ABSENT = 0.05
"""An absent feature is captured in at most this share of cases: what coverage leaves to chance."""


def data_coverage(lab: Lab) -> list[Claim]:
    """Pretraining data show a share of the features; downstream data show all."""
    rows, accuracies, hits, counts = [], [], np.zeros(len(lab.seeds)), 0
    for share in SHARES:
        setting = lab.setting.with_data(covered=share)
        there = lab if setting == lab.setting else lab.sub(f"covered-{share:g}", setting, lab.seeds)
        hit = numpy(captured(there.pretrained("own").network, lab.features, lab.setting.horizon))
        shown = there.pretraining.shown.numpy()
        found = pooled("shown features captured", hit[:, shown].sum(1), int(shown.sum()), lab.seeds)
        rows.append(found | {"covered": share})
        hits, counts = hits + hit[:, ~shown].sum(1), counts + int((~shown).sum())
        trained = there.classifier("learned", "own")
        tuned = trained.network
        rows.append(
            averaged("training loss: lost features leave it high", trained.loss) | {"of": "loss", "covered": share}
        )
        for view in ("multi", "single"):
            accuracy = there.accuracy(tuned, view)
            rows.append(averaged(f"{view}-view accuracy", accuracy) | {"view": view, "covered": share})
            accuracies += [accuracy] if view == "single" else []
    absent = pooled("absent features captured", hits, counts, lab.seeds)
    absent |= {"threshold": ABSENT, "holds": absent["high"] <= ABSENT}
    slopes = np.polyfit(SHARES, np.stack(accuracies), 1)[0]  # one a seed
    main = averaged("slope of single-view accuracy on the share of features shown", slopes, 0.0)
    main["holds"] = main["holds"] and absent["holds"]
    predicted = "features absent from pretraining data are not captured; accuracy rises with the share that is shown"
    return [claim("data-coverage", "[P]'s assumption; the proportion is [D]", predicted, main, [absent, *rows])]
