"""Counting passes from outside, the same for every library."""

from torch import Tensor, nn


class Counted(nn.Module):
    """A model that counts the samples sent through it, and those that a gradient was sent back through.

    Attributes:
        forward_passes: samples sent so far.
        backward_passes: samples whose gradient reached the model's input so far.

    Example:
        >>> import torch
        >>> model = Counted(nn.Linear(2, 3))
        >>> x = torch.zeros(4, 2, requires_grad=True)
        >>> logits = model(x)
        >>> for one in logits.sum(0):
        ...     _ = torch.autograd.grad(one, x, retain_graph=True)
        >>> model.forward_passes, model.backward_passes
        (4, 12)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)  # some libraries look at the mode of what they are given
        self.forward_passes = self.backward_passes = 0

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits; float32, because some libraries hand over float64."""
        x = x.float()
        self.forward_passes += len(x)
        if x.requires_grad:
            # On a view of the input: a gradient that reaches the input by another way is no pass through the model.
            x = x.view_as(x)
            x.register_hook(self._back)
        return self.model(x)

    def _back(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)

    def reset(self) -> None:
        """Count from zero."""
        self.forward_passes = self.backward_passes = 0
