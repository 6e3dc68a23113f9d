"""The built-in network: a small adversarially trained one, made in seconds from scikit-learn's digits."""

from pathlib import Path

import torch
from torch import Tensor, nn

from .architectures import strided

EPSILON, EPOCHS, BATCH = 0.15, 15, 64


def digits(folder: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, its test images and their labels.

    Images are gray, enlarged to 16 x 16. Trained on a third of the digits' complement with one gradient step of
    adversarial training from a random start (Wong et al., "Fast is better than free", ICLR 2020).

    Args:
        folder: where the weights are kept for the next call.
    """
    from safetensors.torch import load_file, save_file
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    x, labels = x.repeat_interleave(2, 2).repeat_interleave(2, 3), torch.tensor(classes)
    model, file, test = strided((16, 32), 512, channels=1), folder / "digits.safetensors", torch.arange(len(x)) % 3 == 0
    if file.exists():
        model.load_state_dict(load_file(file))
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = strided((16, 32), 512, channels=1)
            _train(model, x[~test], labels[~test])
        save_file(model.state_dict(), file)
    return model, x[test], labels[test]


def _train(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    optimiser, loss = torch.optim.Adam(model.parameters(), lr=3e-3), nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            start = (x[rows] + (torch.rand_like(x[rows]) * 2 - 1) * EPSILON).clamp(0, 1).requires_grad_()
            (slope,) = torch.autograd.grad(loss(model(start), labels[rows]), start)
            moved = (start.detach() + 1.25 * EPSILON * slope.sign()).clamp(x[rows] - EPSILON, x[rows] + EPSILON)
            optimiser.zero_grad()
            loss(model(moved.clamp(0, 1)), labels[rows]).backward()
            optimiser.step()
