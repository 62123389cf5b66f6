import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.inference.windows import AxisWindows, mirror_indices


@given(
    st.integers(1, 300), st.integers(1, 96), st.floats(0, 0.9), st.booleans(), st.floats(0.05, 1)
)
def test_windows_cover_an_axis_and_their_weights_sum_to_one(length, size, overlap, gaussian, sigma):
    axis = AxisWindows.fit(length, size, overlap, gaussian=gaussian, sigma=sigma)
    padded = max(length, size)
    total = np.zeros(padded)
    for start, weight in zip(axis.starts, axis.weights, strict=True):
        total[start : start + size] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert 0 <= axis.padding <= padded - length
    assert axis.starts[0] == 0
    assert axis.starts[-1] == padded - size
    steps = np.diff(axis.starts)
    assert (steps <= max(1, np.ceil(size * (1 - overlap)) + 1)).all()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_mirroring_is_numpys_reflection(length):
    axis = np.arange(length)
    reflected = np.pad(axis, 17, mode="reflect") if length > 1 else np.zeros(35, int)
    np.testing.assert_array_equal(mirror_indices(np.arange(-17, length + 17), length), reflected)
