"""Interactions of an image's parts in what a network says of it: Harsanyi's dividends, exactly, for few players.

A player is a group of patches; v(T) is what the network says of the image of which only the players T are left, the
other patches being 0. The dividend of T is what its players bring together beyond what fewer of them do,

    I(T) = sum over S within T of (-1)^(|T| - |S|) v(S),    so that    v(T) = sum over S within T of I(S)

(Harsanyi, 1963). Coalition c holds player g where bit g of c is set. Logits of the lab's network are sums over patches,
and sigma(0) = 0: of a logit I(T) = 0 for two players or more, exactly.
"""

import torch
from torch import Tensor

from whymask.theory.data import Sample
from whymask.theory.network import Network

MOST = 12
"""Players at most: there are 2^MOST coalitions."""


def effects(network: Network, batch: Sample, owners: Tensor) -> Tensor:
    """What each player brings to each logit, (S, B, G, k) float64; `owners` (P,) says whose each patch is, 0 to G - 1.
    Images of one seed are shown to every network."""
    grouped = torch.nn.functional.one_hot(owners).to(batch.patches)  # (P, G)
    found = []
    for place in range(len(network.kernels)):
        one = network.of(slice(place, place + 1))
        active = one.sigma(batch.correlate(one.kernels))
        codes = torch.einsum("sbpk,pg->sbgk", active, grouped) * batch.copies
        found.append((codes @ one.own_head[:, None].mT).double())
    return torch.cat(found)


def every_coalition(network: Network, batch: Sample, owners: Tensor) -> Tensor:
    """Logits of the images of which only a coalition's patches are left, (S, B, 2^G, k) float64: v by its definition,
    as the network itself has it."""
    who = coalitions(int(owners.max()) + 1).to(owners.device)  # (2^G, G)
    kept = who[:, owners].to(batch.patches)  # (2^G, P)
    left = batch.patches[0, :, None] * kept[None, :, :, None]  # (B, 2^G, P, d)
    labels, single = (tensor.repeat_interleave(len(who), 1) for tensor in (batch.labels, batch.single))
    masked = Sample(left.flatten(0, 1)[None], labels, single, batch.copies).to(owners.device, torch.float64)
    each = [network.of(slice(s, s + 1)).map(Tensor.double).logits(masked) for s in range(len(network.kernels))]
    return torch.cat(each).unflatten(1, (-1, len(who)))


def coalitions(players: int) -> Tensor:
    """Who is in which, (2^G, G) float64 of 0 and 1."""
    return (torch.arange(2**players)[:, None] >> torch.arange(players) & 1).double()


def dividends(values: Tensor) -> Tensor:
    """I of every coalition, (..., 2^G), from v of every coalition."""
    left = values.clone()
    for player in range(left.shape[-1].bit_length() - 1):
        without, with_it = left.unflatten(-1, (-1, 2, 2**player)).unbind(-2)  # views
        with_it -= without
    return left


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log p_y / (1 - p_y) of softmax, (...) for logits (..., k) and labels (...)."""
    right = labels[..., None]
    others = logits.scatter(-1, right, -torch.inf).logsumexp(-1)
    return logits.gather(-1, right)[..., 0] - others


def of_log_odds(brought: Tensor, labels: Tensor) -> Tensor:
    """Dividends of the log-odds of the image's class, (S, B, 2^G), from `effects` and labels (B,)."""
    logits = coalitions(brought.shape[2]).to(brought.device) @ brought  # (S, B, 2^G, k)
    return dividends(log_odds(logits, labels[None, :, None].expand(logits.shape[:3])))


def shared(one: Tensor, other: Tensor) -> Tensor:
    """What two have in common, element by element: the smaller of both sizes where they have one sign, else 0."""
    return torch.where(one * other > 0, one.abs().minimum(other.abs()), torch.zeros_like(one))


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """Jaccard's of signed numbers, over all but the first axis: what is shared of all that there is, (S,) in [0, 1].
    Of nothing at all it is 1."""
    common = shared(one, other).flatten(1).sum(1)
    union = (one.abs() + other.abs()).flatten(1).sum(1) - common
    return torch.where(union > 0, common / union, torch.ones_like(union))
