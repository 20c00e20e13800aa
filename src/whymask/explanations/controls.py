"""The networks that stand beside the two that are compared, so that a measure cannot fool anybody.

erased: from scratch, with parts of half of its training images hidden, as pretraining hides them. Measures that hide
parts of images favour networks that have seen such images; what this network does as well, pretraining does not
explain. random: weights as they were drawn. shuffled: trained on shuffled labels. What these two score is what a
measure gives for nothing. readout: the pretrained encoder as it was before fine-tuning, with a linear read-out.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from whymask.data.batches import Batch
from whymask.data.prepare import Prepared
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import Encoder, build_encoder
from whymask.explanations.networks import Member, Role, Run
from whymask.explanations.readout import fit_readout
from whymask.masks import to_pixels, uniform
from whymask.randomness import numpy_generator, torch_generator
from whymask.stages.classify import ClassifierJob, train_classifier
from whymask.stages.context import Context
from whymask.stages.network import Classifier, load_classifier
from whymask.stages.recipes import FinetuneTrainingConfig
from whymask.training.loop import LossOf

ERASED, RANDOM, SHUFFLED = "scratch-erased", "random weights", "shuffled labels"
MASK_RATIO = 0.75
"""Where nothing says what pretraining hid: the masked autoencoder's."""
ERASED_SHARE = 0.5
"""Of the training images; the others are seen whole, as test images are."""


def can_be_trained(run: Run, prepared: Prepared) -> str | None:
    """Why a control cannot be trained as `run` was; None where it can."""
    if run.fingerprint != prepared.identity:
        return f"{prepared.name} does not hold the images that {run.folder} was trained on"
    if not run.training:
        return f"{run.folder} was made by an early version, which did not record its recipe"
    return None


def train_erased(context: Context, run: Run, like: Encoder, ratio: float, out: Path) -> Member:
    """As `run` was trained from scratch, but with a share `ratio` of the mask squares of half the images hidden.

    The network is kept in the run folder `out`, and not trained again if it is there.
    """
    return _trained(context, context, erased_job(context, run, like, ratio), "erased", out)


def erased_job(context: Context, run: Run, like: Encoder, ratio: float) -> ClassifierJob:
    def with_erasing(loss_of: LossOf) -> LossOf:
        return erasing(loss_of, like, ratio, run.seed)

    return replace(scratch_job(context, run, like, ERASED), about={"mask_ratio": ratio}, change=with_erasing)


def train_shuffled(context: Context, run: Run, like: Encoder, out: Path) -> Member:
    """As `run` was trained from scratch, but on labels that were shuffled among its images."""
    prepared, rows = context.prepared, context.labelled_rows(run.budget, run.seed)
    labels = prepared.images.labels.copy()
    labels[rows] = numpy_generator(run.seed, "shuffled labels").permutation(labels[rows])
    lying = replace(prepared, images=replace(prepared.images, labels=labels))
    job = scratch_job(context, run, like, SHUFFLED)
    return _trained(context, replace(context, prepared=lying), job, "shuffled", out)


def erasing(loss_of: LossOf, encoder: Encoder, ratio: float, seed: int) -> LossOf:
    """The loss on batches in which half the images have a share `ratio` of their mask squares at the data's mean."""

    def of_erased(model: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        generator = torch_generator(seed, "erasing", step)
        hidden = uniform(len(batch), encoder.grid, ratio, generator)
        hidden &= (torch.rand(len(batch), generator=generator) < ERASED_SHARE)[:, None, None]
        pixels = to_pixels(hidden, encoder.unit).to(batch.images.device)
        return loss_of(model, replace(batch, images=batch.images.masked_fill(pixels, 0)), step)

    return of_erased


def random_network(
    like: Encoder, classes: int, seed: int, preprocessing: Preprocessing, device: str | torch.device = "cpu"
) -> Member:
    """Weights as a network from scratch begins with."""
    classifier = Classifier(new_encoder(like, seed, preprocessing), classes, seed)
    return Member("random", RANDOM, seed, classifier.to(device), preprocessing)


def readout_network(arm: str, encoder: Encoder, prepared: Prepared, rows: np.ndarray, seed: int) -> Member:
    """A pretrained encoder, and a logistic regression on the labelled images `rows` of `prepared`."""
    classes, labels = len(prepared.classes), prepared.images.labels[rows]
    classifier = Classifier(encoder, classes).to(next(encoder.parameters()).device)
    network = Member("readout", arm, seed, classifier, prepared.images.preprocessing)
    weight, bias = fit_readout(network.pooled_rows(prepared, rows), labels, classes)
    with torch.no_grad():
        network.classifier.head.weight.copy_(torch.from_numpy(weight))
        network.classifier.head.bias.copy_(torch.from_numpy(bias))
    return network


def new_encoder(like: Encoder, seed: int, preprocessing: Preprocessing) -> Encoder:
    encoder = build_encoder(like.config, like.size, like.channels, seed)
    encoder.transform = preprocessing
    return encoder


def scratch_job(context: Context, run: Run, like: Encoder, arm: str) -> ClassifierJob:
    """A network from scratch, trained as `run` was, which must have recorded how."""
    return ClassifierJob(
        arm=arm,
        seed=run.seed,
        budget=run.budget.name,
        rows=context.labelled_rows(run.budget, run.seed),
        test=context.prepared.test,
        config=like.config,
        build=lambda: new_encoder(like, run.seed, context.preprocessing),
        training=FinetuneTrainingConfig(**run.training),
        augment=run.augment,
    )


def _trained(context: Context, seen: Context, job: ClassifierJob, role: Role, out: Path) -> Member:
    """The network of a job on what is `seen`, which stands beside those of `context`."""
    train_classifier(seen, job, out, f"{job.arm}-{job.seed}")
    classifier, _ = load_classifier(out)
    return Member(role, job.arm, job.seed, classifier.to(context.fabric.device), context.preprocessing)
