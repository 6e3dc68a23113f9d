"""A suspect as verification sees it: images in, hard labels out, every image counted, refusals kept apart."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attacks.engine import Access, device_of, frozen
from attacks.errors import InputError, RepromarkError

Suspect = nn.Module | Callable[[Tensor], Any]
"""A classifier with logits, an ``Access`` to one, or a function from images to hard labels (an HTTP client, say)."""

REFUSED = -1


class Oracle:
    """Puts images to a suspect in batches.

    Args:
        suspect: a torch model is held frozen in evaluation mode while it is asked, and its errors are the caller's.
            A function may refuse: None or anything that is no class number refuses one image, an error all of a batch.
        batch_size: images sent at once.

    Attributes:
        queries: images sent so far, answered or not.
        error: the first reason why an answer was missing; empty so far.

    Example:
        >>> oracle = Oracle(lambda images: [1, None])
        >>> oracle.answers(torch.zeros(2, 1, 4, 4)).tolist(), oracle.queries, oracle.error
        ([1, -1], 2, 'None is no class number')
    """

    def __init__(self, suspect: Suspect, batch_size: int = 64) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} sends nothing: it must be at least 1.")
        if isinstance(suspect, nn.Module) and not isinstance(suspect, Access):
            suspect = Access(suspect, level="label")
        self.suspect, self.batch_size = suspect, batch_size
        self.queries = 0
        self.error = ""

    @property
    def budget_left(self) -> int | None:
        """Queries that the suspect's own budget still allows; None: no limit."""
        if not isinstance(self.suspect, Access) or self.suspect.budget is None:
            return None
        return self.suspect.budget - self.suspect.queries

    def answers(self, images: Tensor) -> Tensor:
        """The suspect's classes, int64, shape ``[n]``; ``REFUSED`` where it gave none.

        Args:
            images: float32 in [0, 1], shape ``[n, c, h, w]``.
        """
        return torch.cat([self._ask(part) for part in images.split(self.batch_size)])

    def _ask(self, images: Tensor) -> Tensor:
        self.queries += len(images)
        if isinstance(self.suspect, Access):
            device = device_of(self.suspect, images)
            with frozen(self.suspect):
                return self.suspect.labels(images.to(device)).cpu()
        try:
            given = list(self.suspect(images))
            if len(given) != len(images):
                raise ValueError(f"{len(given)} answers to {len(images)} images")
        except RepromarkError:  # a budget that ran out, say: the caller's to settle, no refusal
            raise
        except Exception as error:  # whatever a remote service may raise
            self._note(f"{type(error).__name__}: {error}")
            given = [REFUSED] * len(images)
        return torch.tensor([self._class(answer) for answer in given])

    def _class(self, answer: Any) -> int:
        try:
            number = operator.index(answer)
        except TypeError:
            number = REFUSED
        if 0 <= number < 2**63:
            return number
        self._note(f"{answer!r:.60} is no class number")
        return REFUSED

    def _note(self, error: str) -> None:
        self.error = self.error or error
