"""Fixtures that tests of training share."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """oneDNN sums a convolution's gradient in the order in which its threads finish."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
