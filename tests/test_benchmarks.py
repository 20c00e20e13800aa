"""The benchmarks run, at tiny sizes, and report what they say they do. No time is asserted."""

import json
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
FIELDS = {"name", "ours", "peer", "peer_rate", "ratio", "share", "unit", "setting"}
VIT_ROWS, LOADER_ROWS = (
    {"mae-step", "mae-step-half"},
    {
        *("loader-32", "encoded-32", "decode-32"),
        *("loader-224", "encoded-224", "decode-224"),
    },
)
MATMUL_ROWS = {"matmul-1", "matmul-2"}
THEORY_ROWS = {"theory-pretrain", "theory-supervised", *(f"theory-masks-{masks}" for masks in (1, 10, 100))}
THEORY_ROWS |= {f"theory-structure-{k}{what}" for k in (2, 3) for what in ("", "-gather")}
LIGHTLY_ROWS = {"mae-step-lightly", "simmim-step-lightly", "ijepa-step"} if find_spec("lightly") else set()
ALONE_ROWS = {"data2vec-step", "data2vec2-step", "maskfeat-step"}
COMPARED = VIT_ROWS | LIGHTLY_ROWS | {"simmim-step", "detector-step"} | LOADER_ROWS | MATMUL_ROWS | THEORY_ROWS


@pytest.fixture(scope="module", autouse=True)
def from_the_repository() -> Any:
    """`benchmarks` lies at the root and is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `python -m benchmarks --quick` writes of every group, by name."""
    out, cpu = tmp_path_factory.mktemp("bench") / "bench.json", import_module("benchmarks.cpu")
    cpu.main(tuple(cpu.GROUPS), out, quick=True)
    return {row["name"]: row for row in json.loads(out.read_text())}


def test_every_row_is_written_whole(rows):
    assert set(rows) == COMPARED | ALONE_ROWS | {"cnn-step", "spark-step"}
    for row in rows.values():
        assert set(row) == FIELDS
        assert row["ours"] > 0 and row["unit"] and row["setting"]


def test_rows_may_be_chosen_and_it_says_how_long_the_others_take(tmp_path, capsys):
    main = import_module("benchmarks.cpu").main
    main(("matmul", "cnn"), tmp_path / "bench.json", quick=True)
    assert {row["name"] for row in json.loads((tmp_path / "bench.json").read_text())} == MATMUL_ROWS | {"cnn-step"}
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("measured")]
    assert first.startswith("measured matmul (") and first.endswith(" left") and "left" not in second
    with pytest.raises(SystemExit, match="nothing: no groups of rows; choose among vit, cnn"):
        main(("nothing",), tmp_path / "bench.json")


@pytest.mark.parametrize("name", sorted(COMPARED))
def test_rows_with_a_peer_compare(rows, name):
    assert rows[name]["peer"] and rows[name]["peer_rate"] > 0 and rows[name]["ratio"] > 0


def test_steps_whose_operations_are_counted_have_a_share_of_the_machine(rows):
    counted = VIT_ROWS | LIGHTLY_ROWS | ALONE_ROWS | {"simmim-step", "theory-pretrain"}
    assert {name for name, row in rows.items() if row["share"] is not None} == counted
    assert all(rows[name]["share"] > 0 for name in counted)


def test_contenders_take_turns_and_ratios_are_medians_of_blocks():
    measure = import_module("benchmarks.measure")
    ticks, turns = count(), []

    def work(name: str, amount: float) -> Any:
        return lambda: turns.append(name) or amount

    works = {"ours": work("ours", 6.0), "peer": work("peer", 2.0)}
    rates = measure.interleaved(works, measure.Effort(blocks=3, seconds=0), clock=lambda: next(ticks))
    assert turns == ["ours", "peer"] * 4  # the first of each warms up
    assert {name: len(values) for name, values in rates.items()} == {"ours": 3, "peer": 3}
    blocks = {"ours": [4.0, 9.0, 40.0], "peer": [2.0, 3.0, 80.0]}
    assert measure.against(blocks, "ours", "peer") == {"ours": 9.0, "peer_rate": 3.0, "ratio": 2.0}


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_necessary_operations_are_those_of_the_formula(share):
    """Three times the forward pass's, but for the first layer's input, which needs no gradient."""
    bench = import_module("benchmarks.mae_step")
    torch = import_module("torch")
    sizes = bench.Sizes(width=48, depth=2, decoder_width=24, decoder_depth=1, batch=16)
    counted = bench.necessary_operations(bench.our_vit(sizes, share), torch.randn(16, 3, 32, 32))
    visible, scored, pixels = 16, round(48 * share), 48

    def block(tokens: int, width: int) -> int:
        return 12 * tokens * width**2 + 2 * tokens**2 * width

    embed = visible * pixels * 48
    encoder = 2 * block(visible + 1, 48)
    decoder = (visible + 1) * 48 * 24 + block(visible + 1 + scored, 24) + scored * 24 * pixels
    assert counted == 2 * (2 * embed + 3 * (encoder + decoder))


# The methods' peers compute what the methods compute -----------------------------------------------------------------


@pytest.fixture(scope="module")
def steps() -> Any:
    return import_module("benchmarks.method_steps")


@pytest.mark.parametrize("name", ["mae", "simmim"])
def test_the_peer_of_lightly_has_our_loss_with_our_weights(name, steps):
    pytest.importorskip("lightly")
    torch = import_module("torch")
    sizes = import_module("benchmarks.cpu").QUICK
    ours = steps.our_model(name, sizes)
    peer = {"mae": steps.LightlyMAE, "simmim": steps.LightlySimMIM}[name](sizes)
    peer.backbone.vit.load_state_dict(ours.encoder.net.state_dict())
    if name == "mae":
        peer.embed, head = ours.decoder.embed, ours.decoder.predict
        peer.decoder.blocks, peer.decoder.norm = ours.decoder.blocks, ours.decoder.norm
        peer.decoder.mask_token.data.copy_(ours.decoder.mask_token)
    else:
        head = ours.head
        peer.backbone.mask_token.data.copy_(ours.mask_token)
    order = torch.arange(48).view(3, 4, 4).permute(1, 2, 0).flatten()  # lightly's patches have the channel last
    peer.head.weight.data, peer.head.bias.data = head.weight.data[order], head.bias.data[order]
    images = torch.randn(8, 3, 32, 32)
    masks = ours.draw(8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(peer(images, *masks), ours(images, *masks)["loss"])


@pytest.mark.parametrize("name", ["ijepa", "mae", "simmim"])
def test_a_step_with_a_peer_of_lightly_trains_all_of_it(name, steps):
    """Its sin-cos positions are fixed, and its I-JEPA's teacher follows."""
    pytest.importorskip("lightly")
    torch = import_module("torch")
    sizes = import_module("benchmarks.cpu").QUICK
    peer = {"ijepa": steps.LightlyIJEPA, "mae": steps.LightlyMAE, "simmim": steps.LightlySimMIM}[name](sizes)
    before = {key: value.clone() for key, value in peer.named_parameters()}
    work = steps.step(peer, steps.our_model(name, sizes).draw, peer, torch.randn(4, 3, 32, 32))
    assert work() == 4 and work() == 4
    unused = {"encoder.mask_token", "teacher.mask_token"} | ({"backbone.mask_token"} if name == "mae" else set())
    still = {key for key, value in peer.named_parameters() if torch.equal(value, before[key])}
    assert {key for key in still if not key.endswith("pos_embed")} <= unused


def test_without_lightly_its_rows_are_skipped_and_the_reason_is_printed(steps, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(steps, "LIGHTLY_MISSING", "No module named 'lightly'")
    monkeypatch.setattr(steps, "rows_of", lambda name, peers, *rest: measured.extend(peers) or [])
    steps.method_rows(None, import_module("benchmarks.cpu").QUICK)
    assert set(measured) == {"simmim-step", *ALONE_ROWS}
    told = capsys.readouterr().out
    assert all(row in told for row in ("mae-step-lightly", "simmim-step-lightly", "ijepa-step"))
    assert "No module named 'lightly'" in told


@pytest.mark.parametrize("sides", [(32, 32), (400, 888)])
def test_without_shared_data_photographs_of_scikit_image_stand_in(sides, monkeypatch, tmp_path):
    loading = import_module("benchmarks.loading")
    monkeypatch.setattr(loading, "SHARED", tmp_path)
    files, name = loading.jpegs("cifar10-jpeg", 6, sides)
    assert "scikit-image" in name and len(files) == 6
    source = loading.source_of(files, name)
    for row in range(6):
        assert source.read(row).format == "JPEG"
        assert all(sides[0] <= side <= sides[1] for side in source.read(row).size)


@pytest.fixture(scope="module")
def detection() -> Any:
    return import_module("benchmarks.detection")


def test_torchvisions_detector_has_our_losses_with_our_weights(detection):
    torch = import_module("torch")
    ours, peer = (model.train() for model in detection.detectors(detection.QUICK))
    ours.encoder.eval()  # statistics of so few positions would make much of rounding
    peer.backbone.eval()
    images, objects = detection.scenes(detection.QUICK)
    losses = detection.drawn_alike(ours, images, objects)
    theirs = detection.drawn_alike(peer, *detection.as_torchvisions(images, objects))
    assert losses.keys() == theirs.keys()
    for name, loss in theirs.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=0)


def test_torchvisions_resnet50_is_of_the_size_of_ours(detection):
    """Weights would be copied one to one, as those of the small ones are."""
    torch = import_module("torch")
    with torch.device("meta"):
        peer = detection.torchvisions(detection.DetectionSizes())
    ours = detection.our_detector(detection.DetectionSizes())
    assert sorted(tuple(p.shape) for p in peer.parameters()) == sorted(tuple(p.shape) for p in ours.parameters())
    assert all(p.requires_grad for p in (*peer.parameters(), *ours.parameters()))


# The theory lab's peers compute what the lab computes ----------------------------------------------------------------


@pytest.fixture(scope="module")
def theory() -> Any:
    return import_module("benchmarks.theory")


def test_the_plain_masked_loss_is_the_definition(theory):
    torch, sampled = import_module("torch"), import_module("whymask.theory.sampled")
    s = theory.QUICK.regime
    batch, network = theory.images_of(s, [0])[0], theory.start_of(s, [0])
    network = network.having(kernels=8 * network.kernels)  # some patches lie beyond rho
    kernels = network.kernels[0].clone().requires_grad_()
    loss = theory.plain_masked_loss(s, kernels, batch.patches[0], 3, torch.Generator().manual_seed(5))
    loss.backward()
    drawn = torch.rand(len(batch), 3, s.data.patches, generator=torch.Generator().manual_seed(5)) < s.theta
    masks = [(1 / 3, drawn[:, number].float()[None]) for number in range(3)]
    expected, gradients = sampled.teacher_student(network, batch, s.theta, s.teacher, masks)
    torch.testing.assert_close(loss.detach(), expected[0])
    torch.testing.assert_close(kernels.grad, gradients["kernels"][0])


def test_plain_pretraining_by_the_exact_loss_walks_the_path_of_own_clocks(theory, monkeypatch):
    """With the masks' expectation in place of drawn masks nothing is left that could differ."""
    torch = import_module("torch")
    s, objective = theory.QUICK.regime, theory.TeacherStudent(0.5, 1.5)
    samples, start = theory.images_of(s, [0]), theory.start_of(s, [0])

    def exact(setting: Any, kernels: Any, patches: Any, masks: int, generator: Any) -> Any:
        images = theory.Sample(patches[None], torch.zeros(1, len(patches)), torch.zeros(1, len(patches)))
        return objective.loss(start.having(kernels=kernels[None]), images).sum()

    monkeypatch.setattr(theory, "plain_masked_loss", exact)
    clock = theory.OwnClock(s.horizon, steps=40)
    path = clock.run(start, objective, samples, s.data.features)
    plain = theory.plain_pretraining(s, clock, start.kernels[0], samples, 1, torch.Generator())
    torch.testing.assert_close(plain, path.network.kernels[0], rtol=1e-4, atol=1e-5)


def test_the_fewest_masks_that_capture_as_much_are_taken(theory):
    torch = import_module("torch")
    s = theory.QUICK.regime
    features = s.data.features
    ours = torch.tensor([[True, True, False, False]])
    kernels = {1: features[:1], 10: features[1:4], 100: features}
    masks, told = theory.enough_masks(s, ours, lambda count: kernels[count][None])
    assert masks == 10 and "with 10 masks an image the peer captured 3, 1 of them ours" in told


def test_gathering_rows_gives_the_same_gradients(theory):
    torch = import_module("torch")
    s = theory.Regime(theory.MultiView(k=3, split="equal", sigma=0.0), m=2, N=40, batch=20)
    network, objective = theory.start_of(s, [0, 1]), theory.TeacherStudent(s.theta, s.teacher)
    batch = theory.images_of(s, [0, 1])[0]
    owned = theory.Owned.of(batch, s.data.features)
    for mine, expected in zip(objective.gradients(network, owned), objective.gradients(network, batch), strict=True):
        torch.testing.assert_close(mine, expected)
