from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from whymask.data.glyph_settings import Glyphs, parse_glyphs
from whymask.data.glyphs import BLOCK, generate, glyph_source, patterns, render
from whymask.errors import WhymaskError

GLYPHS = Glyphs()


@pytest.fixture(scope="module")
def multi_view():
    return generate(GLYPHS, 1500, "train")


@pytest.fixture(scope="module")
def single_view():
    return generate(GLYPHS, 1500, "single", single_view_share=1.0)


def test_patterns_are_distinct_smooth_and_of_the_stated_rms():
    drawn = patterns(GLYPHS)
    assert drawn.shape == (10, 2, 8, 8) and drawn.dtype == np.float32
    assert np.sqrt(np.square(drawn).mean((2, 3))) == pytest.approx(np.full((10, 2), 0.8), rel=1e-5)
    flat = drawn.reshape(20, 64) / (0.8 * 8)
    assert np.abs(flat @ flat.T - np.eye(20)).max() < 0.9
    # 4x4 noise enlarged has less difference between neighbours than 8x8 noise, whose mean square is 2 * 0.8^2
    assert np.square(np.diff(drawn, axis=-1)).mean() < 0.8**2


def test_images_are_the_rendered_truth_and_noise(multi_view):
    images, labels, truth = multi_view
    assert images.shape == (1500, 32, 32) and images.dtype == np.float32
    noise = images - render(GLYPHS, truth)
    assert noise.std() == pytest.approx(0.5, abs=0.002)
    assert noise.mean() == pytest.approx(0, abs=0.002)
    # Cell by cell too: a feature in another place than the truth says would add 0.8^2 there.
    cells = noise.reshape(1500, 4, 8, 4, 8).std((2, 4))
    assert cells.max() < 0.5 * 1.5
    np.testing.assert_array_equal(labels, np.arange(1500) % 10)


def test_every_cell_holds_the_pattern_that_the_truth_names(multi_view):
    truth = multi_view[2]
    image = render(GLYPHS, truth)[7]
    blank = np.ones((4, 4), bool)
    for owner, feature, amplitude, cells in zip(
        truth.classes[7], truth.features[7], truth.amplitudes[7], truth.cells[7], strict=True
    ):
        for cell in cells:
            row, column = divmod(int(cell), 4)
            shown = image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            np.testing.assert_allclose(shown, amplitude * patterns(GLYPHS)[owner, feature], rtol=1e-5)
            blank[row, column] = False
    assert blank.sum() == 4
    assert not image.reshape(4, 8, 4, 8).swapaxes(1, 2)[blank].any()


def test_multi_view_images_show_all_own_features_and_four_weak_others(multi_view):
    _, labels, truth = multi_view
    assert truth.cells.shape == (1500, 6, 2)
    np.testing.assert_array_equal(truth.classes[:, :2], labels[:, None].repeat(2, 1))
    np.testing.assert_array_equal(truth.features[:, :2], np.tile([0, 1], (1500, 1)))
    assert (truth.classes[:, 2:] != labels[:, None]).all()
    own, others = truth.amplitudes[:, :2], truth.amplitudes[:, 2:] / 0.35
    for drawn in (own, others):
        assert 0.8 <= drawn.min() < 0.81 and 1.19 < drawn.max() <= 1.2 + 1e-6
        assert drawn.mean() == pytest.approx(1.0, abs=0.01)
    assert not truth.single_view.any()


def test_cells_are_distinct_and_everywhere(multi_view):
    cells = multi_view[2].cells.reshape(1500, 12)
    assert all(len(set(row)) == 12 for row in cells.tolist())
    shares = np.bincount(cells[:, :2].ravel(), minlength=16) / 3000
    assert shares == pytest.approx(np.full(16, 1 / 16), abs=0.02)


def test_others_are_uniform_over_the_features_of_other_classes(multi_view):
    _, labels, truth = multi_view
    seen = np.zeros((10, 2))
    np.add.at(seen, (truth.classes[labels == 3, 2:], truth.features[labels == 3, 2:]), 1)
    assert not seen[3].any()
    expected = 150 * 4 / 18
    assert np.delete(seen, 3, 0) == pytest.approx(np.full((9, 2), expected), abs=5 * np.sqrt(expected))


def test_single_view_images_show_one_own_feature(single_view):
    _, labels, truth = single_view
    own = np.sort(truth.amplitudes[:, :2], axis=1)
    assert truth.single_view.all()
    assert (own[:, 1] >= 0.8).all() and (own[:, 1] <= 1.2 + 1e-6).all()
    assert (own[:, 0] >= 0.05 * 0.8 - 1e-6).all() and (own[:, 0] <= 0.05 * 1.2 + 1e-6).all()
    others = truth.amplitudes[:, 2:] / 0.3
    assert 0.8 - 1e-6 <= others.min() < 0.81 and 1.19 < others.max() <= 1.2 + 1e-6
    view = truth.amplitudes[:, :2].argmax(1)
    for c in range(10):
        assert 0.3 < view[labels == c].mean() < 0.7


def test_the_share_of_single_views():
    truth = generate(GLYPHS, 2000, "mixed", single_view_share=0.3)[2]
    assert truth.single_view.mean() == pytest.approx(0.3, abs=0.05)
    weak = truth.amplitudes[:, :2].min(1) < 0.1
    np.testing.assert_array_equal(weak, truth.single_view)


def test_the_first_images_do_not_depend_on_how_many_there_are():
    few, many = generate(GLYPHS, 10, "train"), generate(GLYPHS, BLOCK + 10, "train")
    np.testing.assert_array_equal(few[0], many[0][:10])
    np.testing.assert_array_equal(few[2].cells, many[2].cells[:10])
    assert not np.array_equal(many[0][:10], many[0][BLOCK:])
    assert len(generate(GLYPHS, 0, "train")[0]) == 0


def test_seed_and_part_change_the_images_and_only_the_seed_the_features():
    images = generate(GLYPHS, 5, "train")[0]
    assert not np.array_equal(images, generate(GLYPHS, 5, "other")[0])
    assert not np.array_equal(patterns(GLYPHS), patterns(replace(GLYPHS, seed=1)))


def test_chosen_features_alone(multi_view):
    truth = multi_view[2]
    own = replace(truth, amplitudes=np.where(np.arange(6) < 2, truth.amplitudes, 0))
    others = replace(truth, amplitudes=np.where(np.arange(6) < 2, 0, truth.amplitudes))
    np.testing.assert_allclose(render(GLYPHS, own) + render(GLYPHS, others), render(GLYPHS, truth))
    assert np.count_nonzero(render(GLYPHS, own)[0]) == 4 * 64


def test_other_shapes():
    glyphs = Glyphs(classes=3, features=3, grid=5, cell=6, copies=1, others=2, unlabelled=4, train=3, test=5)
    images, _, truth = generate(glyphs, 7, "train")
    assert images.shape == (7, 30, 30) and truth.cells.shape == (7, 5, 1) and truth.cells.max() < 25
    assert len(glyph_source(glyphs)) == 12


def test_the_source():
    glyphs = Glyphs(unlabelled=1100, train=20, test=40)
    source = glyph_source(glyphs)
    assert len(source) == len(set(source.keys)) == 1160
    assert source.keys[17] == "glyphs/unlabelled/00017"
    assert (source.labels[:1100] == -1).all()
    assert np.bincount(source.labels[1100:1120]).tolist() == [2] * 10
    assert source.splits is not None and source.tags is not None
    assert (source.splits == "test").tolist() == [False] * 1120 + [True] * 40
    for tag in ("multi_view", "single_view"):
        assert np.bincount(source.labels[source.tags == tag]).tolist() == [2] * 10
    assert (source.tags[:1120] == "").all()
    np.testing.assert_array_equal(source.read(1090), generate(glyphs, 1100, "unlabelled")[0][1090])
    np.testing.assert_array_equal(source.read(1101), generate(glyphs, 2, "train")[0][1])
    np.testing.assert_array_equal(source.read(1121), generate(glyphs, 2, "multi_view")[0][1])
    np.testing.assert_array_equal(source.read(1141), generate(glyphs, 2, "single_view", 1.0)[0][1])


def test_the_source_is_read_by_several_threads_at_once():
    source = glyph_source(Glyphs(unlabelled=50, train=0, test=0))
    with ThreadPoolExecutor(4) as pool:
        images = np.array(list(pool.map(source.read, range(50))))
    np.testing.assert_array_equal(images, generate(Glyphs(), 50, "unlabelled")[0])


def test_the_stamp_is_that_of_the_settings():
    assert glyph_source(Glyphs(train=10)).stamp == glyph_source(Glyphs(train=10)).stamp
    assert glyph_source(Glyphs(train=10)).stamp != glyph_source(Glyphs(train=10, noise=0.4)).stamp


def test_parsing():
    assert parse_glyphs("glyphs") == Glyphs()
    assert parse_glyphs("glyphs:unlabelled=2000, train=500") == Glyphs(unlabelled=2000, train=500)
    assert parse_glyphs("glyphs:noise=0.25,seed=3") == Glyphs(noise=0.25, seed=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("glyphs:unlabeled=5", "unlabelled"),
        ("glyphs:train", "name=number"),
        ("glyphs:train=many", "whole number"),
        ("glyphs:train=1.5", "train=1000"),
        ("shapes:train=5", "glyphs"),
        ("glyphs:noise=nan", "noise"),
        ("glyphs:train=-1", "train"),
        ("glyphs:classes=1", "classes"),
        ("glyphs:single_view_share=2", "single_view_share"),
        ("glyphs:features=5", "18 cells"),
    ],
)
def test_what_cannot_be_drawn(text, said):
    with pytest.raises(WhymaskError, match=said):
        parse_glyphs(text)
