"""What of a model may be seen, for how many queries, and what was seen before."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from attacks.errors import BudgetError, InputError

from .frozen import tensor_hash, weights_hash
from .levels import Level, seen, shown
from .trace import Trace

_asking: ContextVar[tuple["Access", ...]] = ContextVar("asking", default=())


class Access(nn.Module):
    """A model that shows only what one level of access shows, behind a counter with a hard budget.

    The model answers in evaluation mode; its modes are afterwards as before. Called on inputs it returns a tensor of
    shape ``[n, classes]``, whose argmax is the model's answer at every level (one of them, where classes tie exactly):

    - ``gradients``: the logits, differentiable;
    - ``scores``: the logits, without gradient;
    - ``top_k``: the softmax probabilities of the ``top_k`` best classes; the others share what is left evenly;
    - ``label``: 1 at the predicted class, 0 elsewhere.

    With a cache or a trace an input is sent once: what was seen of it is shown again, in float32, at no charge. A run
    whose process died goes on from its trace: started anew with the same seed, it hears the same answers, bit for
    bit, and only what was not answered yet is sent. What the trace says was sent before counts for the budget.

    Around an :class:`~attacks.models.Endpoint` one batch is one request, so that a death costs one request at most;
    what it has to send again, because a first answer was lost, is counted as well.

    Attributes:
        queries: samples sent to the model so far.
        hits: samples answered from memory.

    Example:
        >>> access = Access(nn.Identity(), level="label", budget=3, price=0.5, cache=True)
        >>> access(torch.tensor([[0.2, 0.7], [0.2, 0.7]]))
        tensor([[0., 1.],
                [0., 1.]])
        >>> access.queries, access.hits, access.cost
        (1, 1, 0.5)
        >>> access.labels(torch.rand(3, 2))
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
        batch_size: int | None = None,
        price: float = 0.0,
        cache: bool = False,
        trace: str | Path | None = None,
        eight_bit: bool = False,
    ) -> None:
        """Hold a model.

        Args:
            model: maps inputs to logits, shape ``[n, classes]``.
            level: what is shown.
            top_k: how many classes the level ``top_k`` shows; at least 1.
            budget: the most samples that may ever be sent; None: no limit.
            batch_size: samples sent at once; by default as many as go into one request of an endpoint, otherwise 256.
            price: of one query, in any currency.
            cache: remember what was seen of every input, 32 bytes and ``classes`` numbers of 4 bytes each (``label``
                needs one number, ``top_k`` two for each class shown).
            trace: a file to remember it in as well, for a run that may die. It is JSON lines, and refuses another
                model, level or top_k. No two processes may write to it at once.
            eight_bit: round inputs in [0, 1] to multiples of 1/255 before they are sent, as in an image file; what is
                equal then is one input.

        Raises:
            InputError: for an unknown level, a number out of range, a cache, trace or rounding with gradients, or a
                trace that cannot be used.
        """
        super().__init__()
        if level not in get_args(Level):
            raise InputError(f"level={level!r} is not known: use one of {', '.join(map(repr, get_args(Level)))}.")
        size = _request_size(model) if batch_size is None else batch_size
        if min(top_k, size) < 1 or (budget is not None and budget < 0) or not 0 <= price < float("inf"):
            raise InputError(
                f"top_k={top_k}, batch_size={size}, budget={budget} and price={price}: the first two must be at least "
                "1, a budget and a price 0 or more."
            )
        if level == "gradients" and (cache or trace is not None or eight_bit):
            raise InputError(
                "cache, trace and eight_bit do not go with level='gradients', since neither what is remembered nor "
                "what was rounded carries a gradient: choose level='scores', 'top_k' or 'label'."
            )
        self.model, self.level, self.top_k, self.budget, self.batch_size = model, level, top_k, budget, size
        self.price, self.eight_bit, self.hits = price, eight_bit, 0
        self._trace = Trace(trace, {} if trace is None else self._asked()) if cache or trace is not None else None
        self.queries = 0 if self._trace is None else self._trace.sent

    @property
    def cost(self) -> float:
        """What the queries so far cost: their number times the price."""
        return self.queries * self.price

    def forward(self, inputs: Tensor) -> Tensor:
        """What the level shows of the model's answers to ``inputs``, shape ``[n, ...]``.

        Raises:
            BudgetError: when the budget does not cover all of ``inputs``; none of them is sent then.
        """
        if self.eight_bit:
            inputs = (inputs * 255).round() / 255
        if self._trace is not None and len(inputs):
            return self._remembered(inputs.detach(), self._trace)
        self._check_budget(len(inputs))
        answers, classes = zip(*map(self._ask, inputs.split(self.batch_size)), strict=True)
        return shown(torch.cat(answers), self.level, classes[0])

    def _remembered(self, inputs: Tensor, trace: Trace) -> Tensor:
        names = [tensor_hash(sample) for sample in inputs.cpu()]
        new = {name: row for row, name in reversed([*enumerate(names)]) if name not in trace}
        places = iter(sorted(new.values()))
        self._check_budget(len(new))
        while rows := list(islice(places, self.batch_size)):
            trace.keep([names[row] for row in rows], *self._ask(inputs[rows]))
        self.hits += len(names) - len(new)
        return shown(trace.rows(names).to(inputs.device), self.level, trace.classes)

    def _ask(self, inputs: Tensor) -> tuple[Tensor, int]:
        """Send inputs; what is seen of the answers, shape ``[n, m]``, and how many classes there are."""
        self._pay(len(inputs))
        gradients = torch.is_grad_enabled() and self.level == "gradients"
        token = _asking.set((*_asking.get(), self))
        try:
            with _evaluating(self.model), torch.set_grad_enabled(gradients):
                logits = self.model(inputs)
        finally:
            _asking.reset(token)
        return seen(logits, self.level, self.top_k), logits.shape[1]

    def _pay(self, samples: int) -> None:
        self._check_budget(samples)
        self.queries += samples
        if self._trace is not None:
            self._trace.pay(samples)

    def _check_budget(self, samples: int) -> None:
        total = self.queries + samples
        if samples and self.budget is not None and total > self.budget:
            raise BudgetError(
                f"{samples} more queries would make {total}, but the budget is {self.budget}: nothing was sent. "
                "Raise the budget or ask about fewer samples."
            )

    def _asked(self) -> dict[str, object]:
        """What a trace's answers belong to."""
        return {
            "model": str(getattr(self.model, "name", type(self.model).__name__)),
            "weights": weights_hash(self.model),
            "level": self.level,
            "top_k": self.top_k if self.level == "top_k" else None,
            "eight_bit": self.eight_bit,
        }

    @torch.no_grad()
    def labels(self, inputs: Tensor) -> Tensor:
        """The predicted classes, int64, shape ``[n]``; costs one query a sample.

        Raises:
            BudgetError: as :meth:`forward`.
        """
        return self(inputs).argmax(1)


def charge_resent(samples: int) -> None:
    """Count samples once more at every :class:`Access` that is asking right now.

    For models that send their inputs elsewhere, before they send some again that may have been answered, and billed.

    Raises:
        BudgetError: a budget does not cover them; then nothing is counted, and nothing may be sent.
    """
    for access in _asking.get():
        access._check_budget(samples)
    for access in _asking.get():
        access._pay(samples)


def _request_size(model: nn.Module) -> int:
    """How many samples go out at once: what the model, or one inside it, puts into one request."""
    sizes = [size for module in model.modules() if isinstance(size := getattr(module, "request_size", None), int)]
    return min(sizes, default=256)


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
