"""What of a model may be seen, and for how many queries."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from attacks.errors import BudgetError, InputError

Level = Literal["gradients", "scores", "top_k", "label"]


class Access(nn.Module):
    """A model that shows only what one level of access shows, behind a counter with a hard budget.

    The model answers in evaluation mode; its modes are afterwards as before. Called on inputs it returns a tensor of
    shape ``[n, classes]``, whose argmax is the model's answer at every level (one of them, where classes tie exactly):

    - ``gradients``: the logits, differentiable;
    - ``scores``: the logits, without gradient;
    - ``top_k``: the softmax probabilities of the ``top_k`` best classes; the others share what is left evenly;
    - ``label``: 1 at the predicted class, 0 elsewhere.

    Attributes:
        queries: samples sent to the model so far.

    Example:
        >>> access = Access(nn.Identity(), level="label", budget=3)
        >>> access(torch.tensor([[0.2, 0.7]]))
        tensor([[0., 1.]])
        >>> access.queries
        1
        >>> access.labels(torch.zeros(3, 2))
        Traceback (most recent call last):
        ...
        attacks.errors.BudgetError: 3 more queries would make 4, but the budget is 3: nothing was sent. Raise the \
budget or ask about fewer samples.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        level: Level = "gradients",
        top_k: int = 5,
        budget: int | None = None,
        batch_size: int = 256,
    ) -> None:
        """Hold a model.

        Args:
            model: maps inputs to logits, shape ``[n, classes]``.
            level: what is shown.
            top_k: how many classes the level ``top_k`` shows; at least 1.
            budget: the most samples that may ever be sent; None: no limit.
            batch_size: samples sent at once.

        Raises:
            InputError: for an unknown level or a count below 1.
        """
        super().__init__()
        if level not in get_args(Level):
            raise InputError(f"level={level!r} is not known: use one of {', '.join(map(repr, get_args(Level)))}.")
        if min(top_k, batch_size) < 1 or (budget is not None and budget < 0):
            raise InputError(
                f"top_k={top_k}, batch_size={batch_size} and budget={budget}: the first two must be at least 1, "
                "a budget 0 or more."
            )
        self.model, self.level, self.top_k, self.budget, self.batch_size = model, level, top_k, budget, batch_size
        self.queries = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """What the level shows of the model's answers to ``inputs``, shape ``[n, ...]``.

        Raises:
            BudgetError: when the budget does not cover all of ``inputs``; none of them is sent then.
        """
        total = self.queries + len(inputs)
        if self.budget is not None and total > self.budget:
            raise BudgetError(
                f"{len(inputs)} more queries would make {total}, but the budget is {self.budget}: nothing was sent. "
                "Raise the budget or ask about fewer samples."
            )
        self.queries = total
        with _evaluating(self.model), torch.set_grad_enabled(torch.is_grad_enabled() and self.level == "gradients"):
            return self._show(torch.cat([self.model(part) for part in inputs.split(self.batch_size)]))

    def _show(self, logits: Tensor) -> Tensor:
        if self.level == "label":
            return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
        if self.level == "top_k":
            best = logits.softmax(1).topk(min(self.top_k, logits.shape[1]), dim=1)
            hidden = logits.shape[1] - best.values.shape[1]
            rest = (1 - best.values.sum(1, keepdim=True)).clamp_min(0) / max(hidden, 1)
            return rest.expand_as(logits).scatter(1, best.indices, best.values)
        return logits

    @torch.no_grad()
    def labels(self, inputs: Tensor) -> Tensor:
        """The predicted classes, int64, shape ``[n]``; costs one query a sample.

        Raises:
            BudgetError: as :meth:`forward`.
        """
        return self(inputs).argmax(1)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Answering must not move the model's statistics."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
