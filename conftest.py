"""Every test and every example runs offline, on one thread, without a display, and from the same seed."""

import os
import random

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The random numbers of a test start from the same place, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
