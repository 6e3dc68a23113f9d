"""Every test runs offline, on one thread, without a display, and from the same seed."""

import os
import random
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data that REPROMARK_ASSETS names; the test is skipped without it."""
    named = os.environ.get("REPROMARK_ASSETS")
    if not named:
        pytest.skip("REPROMARK_ASSETS does not name a folder with real models and data")
    if not Path(named).is_dir():
        pytest.skip(f"REPROMARK_ASSETS names {named}, which is no folder")
    return Path(named)
