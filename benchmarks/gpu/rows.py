"""The functions that `catalogue.ROWS` names: each measures its row in a place."""

import torch

from benchmarks.gpu.detection import our_detection_step, torchvisions_detection_step
from benchmarks.gpu.place import Place
from benchmarks.gpu.steps import Figures, dense_step, lightly_step, our_step, product, transformers_step
from benchmarks.gpu.wholes import demo as demo
from benchmarks.gpu.wholes import loop
from benchmarks.gpu.wholes import theory as theory


def half_product(place: Place) -> Figures:
    return product(place, torch.bfloat16)


def full_product(place: Place) -> Figures:
    return product(place, torch.float32)


def large_step(place: Place) -> Figures:
    return our_step(place, "mae", place.scale.large)


def large_compiled(place: Place) -> Figures:
    return our_step(place, "mae", place.scale.large, compiles=True)


def large_loop(place: Place) -> Figures:
    return loop(place, place.scale.large, place.scale.large_images, place.scale.large.batch)


def large_store(place: Place) -> Figures:
    return loop(place, place.scale.large, place.scale.large_images, place.scale.large.batch, resident=False)


def large_transformers(place: Place) -> Figures:
    return transformers_step(place, place.scale.large, place.scale.large_peer)


def large_lightly(place: Place) -> Figures:
    return lightly_step(place, place.scale.large, place.scale.large_peer)


def small_step(place: Place) -> Figures:
    return our_step(place, "mae", place.scale.small)


def small_compiled(place: Place) -> Figures:
    return our_step(place, "mae", place.scale.small, compiles=True)


def small_loop(place: Place) -> Figures:
    return loop(place, place.scale.small, place.scale.small_images, place.scale.small_batches[0])


def small_loop_128(place: Place) -> Figures:
    return loop(place, place.scale.small, place.scale.small_images, place.scale.small_batches[1])


def small_transformers(place: Place) -> Figures:
    return transformers_step(place, place.scale.small, place.scale.small_peer)


def mae_resnet(place: Place) -> Figures:
    return our_step(place, "mae", place.scale.cnn)


def spark_resnet(place: Place) -> Figures:
    return our_step(place, "spark", place.scale.cnn)


def dense_contiguous(place: Place) -> Figures:
    return dense_step(place, place.scale.cnn, torch.contiguous_format)


def dense_last(place: Place) -> Figures:
    return dense_step(place, place.scale.cnn, torch.channels_last)


def detector(place: Place) -> Figures:
    return our_detection_step(place)


def torchvision_detector(place: Place) -> Figures:
    return torchvisions_detection_step(place, torch.contiguous_format)


def torchvision_detector_last(place: Place) -> Figures:
    return torchvisions_detection_step(place, torch.channels_last)
