"""What `whymask list` shows: methods and the encoders that each fits, and networks of timm."""

import timm
from rich.table import Table

from whymask.encoders import kinds
from whymask.encoders.catalogue import support_of
from whymask.encoders.timm_names import PROVEN
from whymask.methods import METHODS


def methods_table() -> Table:
    table = Table("method", *kinds(), "arXiv", "what it does")
    for name, method in METHODS.items():
        fits = ["yes" if kind in method.encoders else "" for kind in kinds()]
        table.add_row(name, *fits, method.source, (method.__doc__ or "").partition("\n")[0])
    return table


def encoders_table(patterns: tuple[str, ...]) -> Table:
    table = Table("encoder", "kind", "pretraining", "why not", "starts", "pretrained by")
    for pattern in patterns:
        for name in timm.list_models(pattern) or [pattern]:
            found = support_of(name)
            by = [method for method, cls in METHODS.items() if found.kind in cls.encoders]
            starts, methods = ", ".join(found.starts), ", ".join(by) if "pretrain" in found.starts else ""
            table.add_row(found.name, found.kind, found.status, found.reason, starts, methods)
    return table


def proven() -> str:
    """timm's modules whose networks are proven, as a list to read."""
    return ", ".join(PROVEN)
