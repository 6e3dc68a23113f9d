"""The networks that attacks are measured on, with samples that they classify correctly.

The built-in one is trained on the spot on scikit-learn's digits. The others come from two folders that environment
variables name: REPROMARK_ORACLES (the small attack target whose figures are known) and REPROMARK_ASSETS (CIFAR-10).
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from attacks.errors import InputError

from .architectures import CifarResNet, Normalised, ResNet2b, small, strided
from .digits import digits

Loaded: TypeAlias = tuple[nn.Module, Tensor, Tensor]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROBUST = Path("models", "cifar10_robust")
PLAIN = Path("models", "cifar10_resnet")


@dataclass(frozen=True)
class Network:
    """A network, what is asked of it, and how it is loaded.

    Attributes:
        load: gives the model, images ``[n, c, h, w]`` in [0, 1] and labels; told a folder for what was made on the way.
        defended: whether it was trained or certified against attacks.
        epsilon: the l-infinity radius of attacks with a fixed budget.
        samples: the most that are used by default, less where a pass is expensive.
        needs: a file, below the folder that an environment variable names, without which it cannot be loaded.
    """

    load: Callable[[Path], Loaded]
    defended: bool
    epsilon: float
    samples: int = 256
    needs: tuple[str, Path] | None = None

    @property
    def missing(self) -> str | None:
        """Why it cannot be loaded here; None when it can."""
        if self.needs is None:
            return None
        variable, file = self.needs
        if variable not in os.environ:
            return f"{variable} is not set"
        return None if _below(variable, file).exists() else f"{_below(variable, file)} does not exist"


def load_network(name: str, samples: int, folder: Path) -> Loaded:
    """A network of :data:`NETWORKS` with the first samples that it classifies correctly, its weights held still.

    Args:
        name: of the network.
        samples: the most.
        folder: what had to be made, such as the weights of the built-in network, is kept here for the next call.

    Raises:
        InputError: the network is not known, or its files are not here.
    """
    if name not in NETWORKS:
        raise InputError(f"There is no network {name}: use {', '.join(NETWORKS)}.")
    if why := NETWORKS[name].missing:
        raise InputError(f"The network {name} cannot be loaded: {why}.")
    model, x, labels = NETWORKS[name].load(folder)
    model.eval().requires_grad_(False)
    right = torch.zeros(0, dtype=torch.int64)
    for rows in torch.arange(len(x)).split(64):
        if len(right) < samples:
            with torch.no_grad():
                right = torch.cat([right, rows[model(x[rows]).argmax(1) == labels[rows]]])
    return model, x[right[:samples]].contiguous(), labels[right[:samples]]


def _below(variable: str, *parts: str | Path) -> Path:
    return Path(os.environ[variable], *parts)


def _weights(module: nn.Module, file: Path) -> nn.Module:
    from safetensors.torch import load_file

    module.load_state_dict(load_file(file))
    return module


def _target(folder: Path) -> Loaded:
    place = _below("REPROMARK_ORACLES", "attack_target")
    model = strided((24, 48, 48), 768)
    named = nn.ModuleDict({"f": model})
    arrays = np.load(place / "images.npz")
    _weights(named, place / "model.safetensors")
    return model, torch.tensor(arrays["x"]), torch.tensor(arrays["y"])


def _cifar10() -> tuple[Tensor, Tensor]:
    arrays = np.load(_below("REPROMARK_ASSETS", "image", "cifar10", "cifar10_5k2k.npz"))
    images = torch.tensor(arrays["x_test"]).permute(0, 3, 1, 2).contiguous()
    return images.float() / 255, torch.tensor(arrays["y_test"]).long()


def _robust(folder: Path, *, name: str, module: Callable[[], nn.Module]) -> Loaded:
    place = _below("REPROMARK_ASSETS", ROBUST)
    known = json.loads((place / "meta.json").read_text(encoding="utf-8"))[name]
    network = _weights(module(), place / f"{name}.safetensors")
    return Normalised(network, known["mean"], known["std"]), *_cifar10()


def _resnet(folder: Path, *, depth: int) -> Loaded:
    file = _below("REPROMARK_ASSETS", PLAIN, f"resnet{depth}.safetensors")
    return Normalised(_weights(CifarResNet(depth), file), *IMAGENET), *_cifar10()


def _asset(folder: Path, name: str) -> tuple[str, Path]:
    return "REPROMARK_ASSETS", folder / f"{name}.safetensors"


def _defended(name: str, epsilon: float, module: Callable[[], nn.Module] = small) -> Network:
    return Network(partial(_robust, name=name, module=module), True, epsilon, needs=_asset(ROBUST, name))


NETWORKS = {
    "digits": Network(digits, True, 0.15),
    "target": Network(_target, True, 0.15, needs=("REPROMARK_ORACLES", Path("attack_target", "model.safetensors"))),
    "cnn_a_adv": _defended("cnn_a_adv", 4 / 255),
    "resnet2b": _defended("resnet2b", 4 / 255, ResNet2b),
    "oval_base_kw": _defended("oval_base_kw", 4 / 255, partial(small, (8, 16), 1024)),
    "wong_small_8px": _defended("wong_small_8px", 8 / 255),
    "wong_small_l2_36px": _defended("wong_small_l2_36px", 4 / 255),
    "resnet20": Network(partial(_resnet, depth=20), False, 8 / 255, 32, _asset(PLAIN, "resnet20")),
    "resnet56": Network(partial(_resnet, depth=56), False, 8 / 255, 16, _asset(PLAIN, "resnet56")),
}
"""By name. Radii: 8/255 is the field's; networks made for 2/255 are asked at 4/255, where about half withstands."""

USUAL = ("target", "cnn_a_adv", "resnet20")
"""What is measured by default, where it can be loaded: the target, an adversarially trained and an undefended one."""


def loadable_networks() -> list[str]:
    """The networks whose files are here."""
    return [name for name, network in NETWORKS.items() if network.missing is None]


def usual_networks() -> list[str]:
    """The networks of :data:`USUAL` that can be loaded here; the built-in one where none can."""
    return [name for name in USUAL if name in loadable_networks()] or ["digits"]
