"""Real models, data and targets with known answers, which two settings name."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data that REPROMARK_ASSETS names; the test is skipped without it."""
    named = os.environ.get("REPROMARK_ASSETS")
    if not named:
        pytest.skip("REPROMARK_ASSETS does not name a folder with real models and data")
    if not Path(named).is_dir():
        pytest.skip(f"REPROMARK_ASSETS names {named}, which is no folder")
    return Path(named)


@pytest.fixture(scope="session")
def attack_target() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A small robust network, its 256 images and their labels, for which the field's figures are known.

    The folder that REPROMARK_ORACLES names holds it as ``attack_target``; the test is skipped without it.
    """
    named = os.environ.get("REPROMARK_ORACLES")
    folder = Path(named or ".") / "attack_target"
    if not named or not folder.is_dir():
        pytest.skip("REPROMARK_ORACLES does not name a folder with an attack_target in it")
    from safetensors.torch import load_file
    from torch import nn

    widths = ((3, 24), (24, 48), (48, 48))
    convolutions = [layer for ins, outs in widths for layer in (nn.Conv2d(ins, outs, 3, 2, 1), nn.ReLU())]
    model = nn.Module()
    model.f = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(768, 10))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    images = np.load(folder / "images.npz")
    return model.f.eval(), torch.tensor(images["x"]), torch.tensor(images["y"])
