"""Methods of pretraining. One file is one method, read top to bottom: mask -> encode -> decode -> loss.

A method is an nn.Module over an encoder that it does not build: `Method(encoder, config, seed)` with `Method.Config`,
a frozen dataclass. `draw(batch, generator)` gives the masks of a step, `forward(images, *masks)` a dict with "loss" and
what else is worth logging, `reconstruct(images, hidden)` the pictures of the gallery.
"""

from whymask.methods.mae import MAE, MAEConfig

__all__ = ["MAE", "METHODS", "MAEConfig"]

METHODS = {"mae": MAE}
