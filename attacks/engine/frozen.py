"""Keep a model frozen, and prove it: every weight and buffer hashes the same before and after."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from attacks.errors import FrozenModelError


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All parameters and buffers by name: also the buffers that a state dict leaves out."""
    return sorted(chain(model.named_parameters(), model.named_buffers()))


def tensor_hash(tensor: Tensor) -> str:
    """SHA-256 of a tensor's values, dtype and shape, 64 hexadecimal digits; equal on every device.

    Example:
        >>> tensor_hash(torch.zeros(2, 3)) == tensor_hash(torch.zeros(3, 2).T)
        True
        >>> tensor_hash(torch.zeros(2)) == tensor_hash(torch.zeros(1, 2))
        False
    """
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()


def tensor_hashes(model: nn.Module) -> dict[str, str]:
    """SHA-256 of every parameter and buffer of a model (values, dtype and shape), by name, sorted by name.

    Example:
        >>> list(tensor_hashes(nn.BatchNorm1d(2)))
        ['bias', 'num_batches_tracked', 'running_mean', 'running_var', 'weight']
    """
    return {name: tensor_hash(tensor) for name, tensor in _tensors(model)}


def weights_hash(model: nn.Module) -> str:
    """One SHA-256, 64 hexadecimal digits, over all parameters and buffers of a model and their names.

    Equal on every device; memory format does not matter.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> before = weights_hash(model)
        >>> _ = model.weight.data.add_(1)
        >>> weights_hash(model) == before
        False
    """
    lines = (f"{name} {digest}\n" for name, digest in tensor_hashes(model).items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextmanager
def frozen(model: nn.Module, *, prove: bool = False) -> Iterator[None]:
    """Hold a model still: evaluation mode, no gradient for any weight; modes and flags return afterwards as they were.

    Args:
        model: any torch module; not copied.
        prove: also hash every parameter and buffer before and after. Takes one read of the weights each time.

    Raises:
        FrozenModelError: with ``prove``, when a tensor changed, came, went, or received a gradient, or when a module
            left evaluation mode meanwhile; the message names the first one.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> with frozen(model, prove=True):
        ...     model.weight.requires_grad
        False
        >>> model.weight.requires_grad
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(weight, weight.requires_grad, weight.grad) for weight in model.parameters()]
    before = tensor_hashes(model) if prove else {}
    model.eval()
    for weight, _, _ in flags:
        weight.requires_grad_(False)
        weight.grad = None
    try:
        yield
        if prove:
            _prove_unchanged(model, before)
    finally:
        for module, training in modes:
            module.training = training
        for weight, flag, gradient in flags:
            weight.requires_grad_(flag)
            weight.grad = gradient


def _prove_unchanged(model: nn.Module, before: dict[str, str]) -> None:
    for name, module in model.named_modules():
        if module.training:
            raise FrozenModelError(
                f"The frozen model left evaluation mode at {name or 'its root'!r}: something called .train() on it "
                "while it was held frozen. Its statistics may have moved; load it again."
            )
    for name, weight in model.named_parameters():
        if weight.requires_grad or weight.grad is not None:
            raise FrozenModelError(
                f"A gradient reached the weight {name!r} of the frozen model: something set requires_grad on it "
                "while it was held frozen. Only the program may learn; leave the model's flags alone."
            )
    after = tensor_hashes(model)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        raise FrozenModelError(
            f"The frozen model changed: {changed[0]!r} ({len(changed)} of {len(before)} tensors) differs from before. "
            "Look for a layer that updates itself in its forward pass, or code that writes to weights; load it again."
        )
