"""Claim 8: features that pretraining data lack are not captured [P's assumption], and accuracy rises with the share of
features that they show [D]."""

import numpy as np

from whymask.report.text import known
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, at_most, averaged, finding, mean_share, pooled, worst
from whymask.theory.lab import Lab
from whymask.theory.measures import captured
from whymask.theory.page.figures import distinct, lines
from whymask.theory.store import numpy

ID = "data-coverage"
SHARES = (0.25, 0.5, 0.75, 1.0)
ABSENT = 0.05
"""An absent feature is captured in at most this share of cases: what coverage leaves to chance."""


def data_coverage(lab: Lab) -> list[Finding]:
    """Pretraining data show a share of the features; downstream data show all."""
    rows, accuracies, hits, counts = [], [], np.zeros(len(lab.seeds)), 0
    for share in SHARES:
        regime = lab.regime.with_data(covered=share)
        there = lab if regime == lab.regime else lab.sub(f"covered-{share:g}", regime, lab.seeds)
        hit = numpy(captured(there.pretrained("own").network, lab.features, lab.regime.horizon))
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
            rows.append(mean_share(f"{view}-view accuracy", accuracy) | {"view": view, "covered": share})
            accuracies += [accuracy] if view == "single" else []
    absent = pooled("absent features captured", hits, counts, lab.seeds)
    absent = at_most(absent, ABSENT)
    slopes = np.polyfit(SHARES, np.stack(accuracies), 1)[0]  # one a seed
    main = averaged("slope of single-view accuracy on the share of features shown", slopes, 0.0)
    main["state"] = worst([main["state"], absent["state"]])
    predicted = "features absent from pretraining data are not captured; accuracy rises with the share that is shown"
    return [finding(ID, "[P]'s assumption; the proportion is [D]", predicted, main, [absent, *rows])]


def against_the_share_shown(told: Told) -> list[Picture]:
    accuracy = [row for row in told.rows if row.get("view")]
    series = {view: [row for row in accuracy if row["view"] == view] for view in distinct(accuracy, "view")}
    others = [row for row in told.rows if not row.get("view") and not row.get("of") and known(row.get("covered"))]
    found = {what: [row for row in others if row.get("what") == what] for what in distinct(others, "what")}
    share = "share of features shown in pretraining"
    pictures = []
    for name, groups, caption, axis in (
        ("accuracy", {f"{view}-view images": own for view, own in series.items()}, "Accuracy", "accuracy"),
        ("captured", found, "Captured features", "share captured"),
    ):
        if svg := lines(f"theory-covered-{name}", groups, "covered", share, axis):
            pictures.append(Picture(f"theory-covered-{name}", f"{caption} against the share shown", svg))
    return pictures


DATA_COVERAGE = Claim(
    id=ID,
    title="What pretraining data do not show is not captured",
    test=data_coverage,
    section=Section(
        id="data-coverage",
        title="What pretraining data must show",
        reading="Pretraining images show only a share of the features; the labelled images and the test show all. "
        "Accuracy rises with that share when pretraining is what captures features. Bars: 95 % interval.",
        draw=against_the_share_shown,
    ),
)
