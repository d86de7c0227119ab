"""The sparse coding model against its definition: moments, independence, repeatability, and invalid arguments."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from twoview.loaders import rng
from twoview.loaders.arrays import read_arrays
from twoview.loaders.sparse_coding import SparseCoding, write


def test_normals_are_normal_and_words_uniform():
    key, samples = np.uint64(3), np.arange(500)
    normals = rng.normals(key, 0, samples, 0, rng.NOISE, 41)
    assert stats.kstest(normals.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(normals.T) - np.eye(41)).max() < 5 / math.sqrt(500)
    words = rng.words(key, 0, samples, 0, rng.MASK, 41)
    assert stats.kstest(words.ravel() / 2.0**32, "uniform").pvalue > 0.01
    assert words[7, 6] == rng.philox(key, 7, 0, rng.MASK, 1)[2]


def test_normals_are_box_and_mullers_of_the_words():
    key, samples = np.uint64(9), np.arange(50)
    words = rng.words(key, 2, samples, 1, rng.NOISE, 8).astype(np.float64)
    radius, angle = np.sqrt(-2 * np.log((words[:, ::2] + 0.5) / 2**32)), 2 * np.pi * words[:, 1::2] / 2**32
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).reshape(50, 8)
    assert rng.normals(key, 2, samples, 1, rng.NOISE, 8) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(0, 20), st.floats(0.01, 1), st.floats(0, 2), st.integers(0, 2**64 - 1))
def test_x_is_m_z_plus_xi(d, more, sparsity, noise, seed):
    data = SparseCoding(d, d + more, sparsity, noise, seed=seed)
    samples = np.array([5, 0, 2**31])
    z = data.latents(samples)
    assert z.dtype == np.float32 and z.shape == (3, d) and set(np.unique(z)) <= {-1, 0, 1}
    assert data.dictionary.T @ data.dictionary == pytest.approx(np.eye(d), abs=1e-5)
    assert np.array_equal(data.x(samples), z @ data.dictionary.T + data.noises(samples))
    assert data.x(samples[1:])[0] == pytest.approx(data.x(samples)[1], abs=1e-5)
    assert np.array_equal(data.noises(samples[1:]), data.noises(samples)[1:])


def test_latents_have_the_sparsity_and_symmetric_signs():
    data = SparseCoding(d=50, d1=50, sparsity=0.1)
    z = data.latents(np.arange(4000))
    count = z.size
    assert abs((z != 0).mean() - 0.1) < 4 * math.sqrt(0.09 / count)
    assert abs(z.mean()) < 4 * math.sqrt(0.1 / count)


def test_the_default_rates():
    data = SparseCoding(64, 1024)
    assert data.active == math.log(math.log(64)) / 64
    assert data.variance == math.sqrt(math.log(64)) / 64
    follow_up = SparseCoding(64, 1024, noise_is="deviation")
    assert follow_up.variance == pytest.approx(math.log(64) / 64**2)
    assert abs(follow_up.noises(np.arange(200)).std() / (math.sqrt(math.log(64)) / 64) - 1) < 0.01


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"d": 0}, "d must be at least 1, got 0"),
        ({"d": -3}, "d must be at least 1, got -3"),
        ({"d": 8, "d1": 7}, "d1 must be at least d \\(8\\), got 7"),
        ({"d": 2, "d1": 7}, "d is 2, for which"),
        ({"sparsity": 0.0}, "sparsity must be above 0 and at most 1, got 0.0"),
        ({"sparsity": float("nan")}, "sparsity must be .* got nan"),
        ({"noise": -1.0}, "noise must be finite and not negative, got -1.0"),
        ({"noise_is": "power"}, "noise_is must be variance or deviation, got 'power'"),
    ],
)
def test_what_cannot_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        SparseCoding(**arguments)


def test_as_a_beton(tmp_path):
    data = SparseCoding(16, 32, 0.2)
    write(tmp_path / "sparse.beton", data, 20)
    arrays = read_arrays(tmp_path / "sparse.beton")
    assert np.array_equal(arrays["x"], data.x(np.arange(20)))
    assert arrays["z"].dtype == np.int8 and np.array_equal(arrays["z"], data.latents(np.arange(20)))
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        write(tmp_path / "none.beton", data, 0)
