"""The small networks whose weights the benchmark can load, written from their papers and their weights' shapes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Normalised(nn.Module):
    """A network behind the normalisation it was trained with: takes images in [0, 1], as every attack expects.

    Args:
        network: takes ``(images - mean) / std``.
        mean: of each channel.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape ``[n, classes]``, of images ``[n, c, h, w]``."""
        return self.network((images - self.mean) / self.std)


def strided(widths: Sequence[int], features: int, *, channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Convolutions 3 x 3 of stride 2 and one linear layer: the small attack target, and the built-in network."""
    pairs = zip((channels, *widths), widths, strict=False)
    convolutions = [layer for ins, outs in pairs for layer in (nn.Conv2d(ins, outs, 3, 2, 1), nn.ReLU())]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(features, classes))


def small(widths: tuple[int, int] = (16, 32), features: int = 2048) -> nn.Sequential:
    """Two convolutions 4 x 4 of stride 2, two linear layers (Wong and Kolter, ICML 2018)."""
    first, second = widths
    return nn.Sequential(
        nn.Conv2d(3, first, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(first, second, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(features, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


class PlainBlock(nn.Module):
    """Two convolutions and a shortcut, without normalisation."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(ins, outs, 3, stride, 1), nn.Conv2d(outs, outs, 3, 1, 1)
        same = stride == 1 and ins == outs
        self.shortcut = nn.Sequential() if same else nn.Sequential(nn.Conv2d(ins, outs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.shortcut(x))


class ResNet2b(nn.Module):
    """Two blocks without normalisation, for 32 x 32 images (Wang et al., NeurIPS 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(PlainBlock(8, 16, 2), PlainBlock(16, 16, 1))
        self.linear1, self.linear2 = nn.Linear(1024, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        features = self.layer1(functional.relu(self.conv1(x))).flatten(1)
        return self.linear2(functional.relu(self.linear1(features)))


class Block(nn.Module):
    """Two convolutions with batch normalisation; a shortcut that drops pixels and adds empty channels (option A)."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs)
        self.conv2, self.bn2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs)
        self.stride, self.added = stride, outs - ins

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return functional.relu(out + x)


class CifarResNet(nn.Module):
    """The residual network for CIFAR-10 of He et al., CVPR 2016; depth 20, 32, 44 or 56."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(Block(outs if k else ins, outs, 1 if k else stride) for k in range((depth - 2) // 6)))
            for ins, outs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))
