"""Methods that were seen to lag far behind mae in a short pretraining: told before such a run."""

from typing import NamedTuple


class Gain(NamedTuple):
    """Fine-tuned minus scratch, accuracy, with its 95 % interval over 3 seeds."""

    mean: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self.mean:+.3f} ({self.low:.3f} to {self.high:.3f})"


SHORT = 8e12
"""Counted operations of the pretrainings that were compared: a minute or two of a core."""
MAE = Gain(0.055, 0.038, 0.071)
BEHIND = {"simmim": Gain(0.026, 0.022, 0.030), "data2vec": Gain(-0.011, -0.043, 0.022)}
"""Those whose interval lies wholly below mae's, of a ViT on CIFAR-10 (docs/results/methods/table.json). What was not
compared, such as ijepa, or on a CNN, is not known to be behind."""


def may_lag(method: str, kind: str) -> bool:
    """Whether a short pretraining of this kind of encoder is known to lag: then its operations are worth counting."""
    return kind == "vit" and method in BEHIND


def lag_text(method: str, kind: str, operations: float) -> str:
    """What to say of so short a pretraining of this kind of encoder; "" where nothing is known against it."""
    if not may_lag(method, kind) or operations > SHORT:
        return ""
    return (
        f"{method} is not known to be fit for so short a run, {operations:.1e} operations: with {SHORT:.0e} on "
        f"CIFAR-10 it gained {BEHIND[method].text()} over scratch where mae gained {MAE.text()}, 3 seeds; pretrain "
        "longer, or by mae (docs/results)"
    )
