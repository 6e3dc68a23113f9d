"""A method inside a method, on some rows of the batch."""

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from .asks import Answer, Method, Objective, View
from .perturbations import as_tensor

T = TypeVar("T")


def on_rows(method: Method[T], rows: Tensor, n: int) -> Method[T]:
    """Run a method that was started on some samples inside a method on all of them.

    What the inner method does between its asks then costs no more than these rows.

    Args:
        method: started on the samples at ``rows``, in that order.
        rows: int64, shape ``[k]``.
        n: samples in the whole batch.

    Example:
        >>> from attacks.engine import Ask, drive
        >>> def inner(x):
        ...     answer = yield Ask(x)
        ...     return answer.logits
        >>> x = torch.arange(3.0)[:, None]
        >>> whole = on_rows(inner(x[[0, 2]]), torch.tensor([0, 2]), 3)
        >>> echo = lambda ask: Answer(ask.parameters, torch.ones(3) > 0, torch.zeros(3))
        >>> drive(whole, echo).flatten()
        tensor([0., 2.])
    """
    mine = torch.zeros(n, dtype=torch.bool, device=rows.device).index_fill_(0, rows, True)
    places = torch.zeros(n, dtype=torch.int64, device=rows.device).index_copy_(
        0, rows, torch.arange(len(rows)).to(rows)
    )
    try:
        ask = next(method)
        while True:
            p = as_tensor(ask.parameters)
            spread = p.new_zeros(n, *p.shape[1:]).index_copy_(0, rows, p)
            wanted = mine if ask.wanted is None else torch.zeros_like(mine).index_copy_(0, rows, ask.wanted)
            objective = None if ask.objective is None else _renumbered(ask.objective, places)
            answer = yield replace(ask, parameters=spread, objective=objective, wanted=wanted)
            gradient = None if answer.gradient is None else answer.slope()[rows]
            ask = method.send(Answer(answer.logits[rows], answer.fooled[rows], answer.loss[rows], gradient))
    except StopIteration as end:
        return end.value


def _renumbered(objective: Objective, places: Tensor) -> Objective:
    """An objective that looks its samples up by their places among the inner method's."""

    def inner(view: View) -> Tensor:
        return objective(replace(view, batch=replace(view.batch, rows=places[view.batch.rows])))

    return inner
