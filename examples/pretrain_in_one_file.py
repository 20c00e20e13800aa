"""Masked-autoencoder pretraining (arXiv 2111.06377) from images to weights, without the loop's conveniences.

    python examples/pretrain_in_one_file.py photos/ encoder/

The encoder's weights are, bit for bit on one CPU, those of as many steps of
`whymask pretrain photos/ --encoder vit --width 96 --depth 4`.
What is left out: resuming, logs, several processes, other precisions, fitting to hours, and checks of what is given.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_

from whymask.data.batches import Batches
from whymask.data.crops import Augment
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings, build_encoder, resolve, save_encoder
from whymask.masks import indices, take, to_squares, uniform
from whymask.methods import resolve_method
from whymask.methods.base import standardised
from whymask.methods.mae import TokenDecoder
from whymask.methods.settings import MAESettings
from whymask.randomness import derive, seeded, torch_generator
from whymask.stages.recipes import resolve_pretraining
from whymask.stages.settings import PretrainTrainingSettings
from whymask.training.optimisation import make_optimiser, rate_at

VIT = EncoderSettings("vit", width=96, depth=4)
CROP_AND_FLIP = Augment()


def pretrain(data, asked=VIT, epochs=10, batch_size=128, augment=CROP_AND_FLIP, seed=0):
    """Trains a ViT on the images of `data` that are not test images; returns it, and how its images are prepared."""
    prepared = prepare(data, DataSettings(), multiple_of=asked.square)  # decoded once, split, free of leaks
    images = prepared.images.preprocessing  # size (h, w), channels C, mean and deviation
    config = resolve(asked, images.size, images.channels)  # what was not given follows from the images
    encoder = build_encoder(config, images.size, images.channels, seed)
    mae = resolve_method("mae", MAESettings(), config, images.size)  # mask ratio 0.75, a decoder of two blocks
    with seeded(seed, "decoder"):
        decoder = TokenDecoder(encoder, mae)

    schedule = PretrainTrainingSettings(epochs=epochs, batch_size=batch_size)  # the learning rate follows the batch
    training = resolve_pretraining(schedule, len(prepared.pool))
    model = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder}).train()
    optimiser = make_optimiser(model, training)  # AdamW; biases, norms, positions and tokens do not decay
    batches = Batches(prepared.images, prepared.pool, batch_size=batch_size, seed=seed, augment=augment)
    steps = epochs * batches.steps_per_epoch
    for step in range(steps):
        pixels = batches(step).images  # (B, C, h, w): cropped, mirrored and standardised
        hidden = uniform(len(pixels), encoder.grid, mae.mask_ratio, torch_generator(seed, "mask", step))  # (B, gh, gw)
        torch.manual_seed(derive(seed, "step", step))

        features = encoder(pixels, hidden)  # (B, n visible, D): hidden pixels never enter the network
        places = indices(hidden)[1]  # (B, n hidden): which squares are to be predicted
        predicted = decoder(features, hidden, places)  # (B, n hidden, C * unit * unit)
        target = standardised(take(to_squares(pixels, encoder.unit), places))  # each square less mean, over deviation
        loss = F.mse_loss(predicted, target)

        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, steps, training) * group["scale"]  # warm-up, then a cosine down to 0
        loss.backward()
        clip_grad_norm_([weight for group in optimiser.param_groups for weight in group["params"]], training.clip)
        optimiser.step()
        optimiser.zero_grad()
        print(f"step {step + 1} of {steps}: loss {loss.item():.4f}", end="\r")
    return encoder, images


if __name__ == "__main__":
    trained, preprocessing = pretrain(sys.argv[1])
    save_encoder(trained, preprocessing, Path(sys.argv[2]), {"method": "mae", "seed": 0})
    print(f"\n{sys.argv[2]} can be fine-tuned: whymask finetune labelled/ --from {sys.argv[2]}")
