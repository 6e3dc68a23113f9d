"""Gradients from function values: any gradient method becomes a black-box one.

A method that asks for a gradient hears one that is estimated (see :mod:`attacks.engine.estimators`) from the loss at
points around the one it asks about. The model only answers; that its answers carry no gradient does not matter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from attacks.errors import InputError

from .asks import Answer, Ask, Method, Objective, Parameters, View
from .estimators import Estimator
from .perturbations import Perturbation

T = TypeVar("T")
Transform = Callable[[Tensor], Tensor]

ENTRIES = 2**22
"""The most entries of directions drawn at once: it bounds the memory for large images and saves time for small ones."""


def by_queries(
    attack: Callable[..., Method[T]], estimator: Estimator, *, bounds: tuple[float, float] | None = None
) -> Callable[..., Method[T]]:
    """The same attack for :func:`run`, with every gradient it asks for estimated from queries.

    Take a loss that changes with every small step: the cross-entropy of a model that is sure rounds to zero in single
    precision, where :func:`margin` and :func:`dlr` do not.

    Args:
        attack: a method with its settings bound.
        estimator: made by :func:`nes`, :func:`rgf`, :func:`spsa`, :func:`spsa_gc` or :func:`coordinate`.
        bounds: where no probe may leave: the smallest and largest valid entry of an input.

    Example:
        >>> from attacks.engine import Access, margin, run, untargeted
        >>> from attacks.engine.estimators import nes
        >>> def one_step(x, perturbation, *, generator):
        ...     answer = yield Ask(perturbation.start(x), untargeted(margin), gradient=True)
        ...     yield Ask(perturbation.clip(x, -0.2 * answer.slope().sign()))
        >>> model = Access(torch.nn.Identity(), level="scores")
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> result = run(by_queries(one_step, nes(samples=10)), model, x, labels, norm="linf")
        >>> result.success, result.forward_passes, result.backward_passes
        (tensor([True]), tensor([23]), tensor([0]))
    """

    def method(x: Tensor, perturbation: Perturbation, *, generator: torch.Generator, **told: float) -> Method[T]:
        inner = attack(x, perturbation, generator=generator, **told)
        return (yield from Estimation(estimator, generator, bounds=bounds)(inner))

    return method


@dataclass
class Estimation:
    """Answers a method's asks for gradients from function values, and keeps what lasts from one ask to the next.

    Call it on a running method to get one that asks for no gradient. All other asks go through as they are. A point at
    which a gradient was asked for stays a candidate; the points around it are probes.

    Attributes:
        estimator: how gradients are estimated.
        generator: all chance comes from it; on the parameters' device.
        shared: whether all samples share the parameters, so that the gradient is that of their summed loss. A training
            does, which a :class:`Stream` answers: keep one estimation for all its batches.
        bounds: the smallest and largest valid entry of an input, at which probes are cut off: most models refuse what
            lies outside. There the loss is seen from one side, and an entry's slope comes out half as steep.
        velocity: what earlier estimates add up to, for an estimator with momentum.

    Example:
        >>> from attacks.engine import Batch, Stream, Universal, cross_entropy, drive, untargeted
        >>> from attacks.engine.estimators import coordinate
        >>> def method():
        ...     answer = yield Ask(torch.zeros(1, 2), untargeted(cross_entropy), gradient=True)
        ...     return answer.slope()
        >>> batch = Batch(torch.full((4, 2), 0.5), torch.zeros(4, dtype=torch.int64), None, torch.arange(4))
        >>> stream = Stream(torch.nn.Identity(), Universal())
        >>> estimation = Estimation(coordinate(spread=0.01), torch.Generator(), shared=True)
        >>> drive(estimation(method()), stream.on(batch)).round(decimals=3)
        tensor([[ 2., -2.]])
        >>> stream.forward_passes, stream.backward_passes
        (20, 0)
    """

    estimator: Estimator
    generator: torch.Generator
    shared: bool = False
    bounds: tuple[float, float] | None = None
    velocity: Tensor | None = field(default=None, repr=False)

    def __call__(self, method: Method[T]) -> Method[T]:
        """The same method without asks for gradients; returns what the method returns."""
        try:
            ask = next(method)
            while True:
                answer = (yield from self._estimated(ask)) if ask.gradient else (yield ask)
                ask = method.send(answer)
        except StopIteration as end:
            return end.value
        finally:
            method.close()

    def _estimated(self, ask: Ask) -> Method[Answer]:
        """What the model says at the point, and a gradient there."""
        if ask.objective is None:
            raise TypeError("An ask for a gradient needs an objective.")
        watched = _Watched(ask.objective)
        answer = yield replace(ask, objective=watched, gradient=False)
        point = _Point.of(_moving(ask), self.shared)
        rows = torch.arange(1, device=point.flat.device) if self.shared else watched.rows
        gradient = point.flat.new_zeros(*((1,) if self.shared else answer.loss.shape), point.flat.shape[1])
        for directions in self._directions(point, len(rows)) if len(rows) else ():
            slopes = yield from self._slopes(ask, point, answer.loss, rows, directions)
            gradient[rows] += torch.einsum("nm...,nmd->n...d", slopes, directions)
        gradient *= self.estimator.weight or 1 / self.estimator.samples
        return replace(answer, gradient=point.shaped(self._corrected(gradient)))

    def _directions(self, point: "_Point", rows: int) -> Iterator[Tensor]:
        """The directions of ``rows`` samples, in pieces ``[rows, m, size]``."""
        estimator, (n, size) = self.estimator, point.flat.shape
        piece = max(1, ENTRIES // (n * size))
        if estimator.decoder is None:
            yield from estimator.draw(rows, estimator.samples, size, piece, self.generator)
            return
        if point.names is not None:
            raise InputError(
                f"A decoder makes directions for one tensor, but these parameters are named ones "
                f"({', '.join(point.names)}): use an estimator without a decoder."
            )
        small = torch.Size(estimator.decoder.small(point.shapes[0]))
        for noise in estimator.draw(rows, estimator.samples, small.numel(), piece, self.generator):
            decoded = estimator.decoder(noise.reshape(-1, *small), point.shapes[0])
            yield decoded.reshape(*noise.shape[:2], size)

    def _slopes(self, ask: Ask, point: "_Point", base: Tensor, rows: Tensor, directions: Tensor) -> Method[Tensor]:
        """How steep the loss of these rows is along their directions, shape ``[rows, m]`` or ``[rows, m, losses]``."""
        centre, spread = point.flat[rows][:, None], self.estimator.spread
        if self.estimator.two_sided:
            away = spread * directions
            probes = torch.cat([centre + away, centre - away], dim=1)
            above, below = (yield from self._losses(ask, point, rows, probes)).chunk(2, dim=1)
            slopes = (above - below) / (2 * spread)
        else:
            losses = yield from self._losses(ask, point, rows, centre + spread * directions)
            slopes = (losses - (base if self.shared else base[rows])[:, None]) / spread
        return slopes.sum(0, keepdim=True) if self.shared else slopes

    def _losses(self, ask: Ask, point: "_Point", rows: Tensor, probes: Tensor) -> Method[Tensor]:
        """The losses at probes ``[rows, m, size]``: asked for all at once, or one by one where that cannot be.

        For shared parameters these are the losses of all samples: to sum their differences loses fewer digits than to
        take the difference of their sums.
        """
        ask = replace(ask, gradient=False, probe=True, through=self._valid(ask.through))
        if not self.shared and isinstance(ask.parameters, Tensor):
            everywhere = probes
            if len(rows) < len(point.flat):
                everywhere = probes.new_zeros(len(point.flat), *probes.shape[1:]).index_copy_(0, rows, probes)
            answer = yield replace(ask, parameters=point.shaped(everywhere), several=True)
            return answer.loss[rows]
        losses = []
        for probe in probes.unbind(dim=1):
            moved = point.shaped(point.flat.index_copy(0, rows, probe))
            still = ask.parameters if isinstance(ask.parameters, dict) else {}
            answer = yield replace(ask, parameters={**still, **moved} if isinstance(moved, dict) else moved)
            losses.append(answer.loss if self.shared else answer.loss[rows])
        return torch.stack(losses, dim=1)

    def _valid(self, through: Transform | None) -> Transform | None:
        """What happens to a probe's inputs: they are cut off at the bounds, and then what the method wants."""
        if self.bounds is None:
            return through
        low, high = self.bounds
        return lambda x: x.clamp(low, high) if through is None else through(x.clamp(low, high))

    def _corrected(self, gradient: Tensor) -> Tensor:
        momentum = self.estimator.momentum
        if momentum == 0:
            return gradient
        self.velocity = gradient if self.velocity is None else momentum * self.velocity + gradient
        return gradient + momentum * self.velocity


@dataclass
class _Watched:
    """An objective that notes for which rows it was evaluated: the others are done, and need no probes."""

    objective: Objective
    rows: Tensor = field(default_factory=lambda: torch.arange(0))

    def __call__(self, view: View) -> Tensor:
        self.rows = view.batch.rows
        return self.objective(view)


def _moving(ask: Ask) -> Parameters:
    """The parameters whose gradient is wanted."""
    if isinstance(ask.parameters, Tensor) or ask.moving is None:
        return ask.parameters
    return {name: ask.parameters[name] for name in ask.moving}


@dataclass(frozen=True)
class _Point:
    """Parameters as one matrix: a row for each sample, or a single one where all samples share them."""

    flat: Tensor
    shapes: tuple[torch.Size, ...]
    names: tuple[str, ...] | None
    whole: bool

    @staticmethod
    def of(parameters: Parameters, shared: bool) -> "_Point":
        if isinstance(parameters, Tensor):
            return _Point(parameters.flatten(1), (parameters.shape[1:],), None, whole=False)
        tensors = [value[None] if shared else value for value in parameters.values()]
        flat = torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], dim=1)
        return _Point(flat, tuple(tensor.shape[1:] for tensor in tensors), tuple(parameters), whole=shared)

    def shaped(self, flat: Tensor) -> Parameters:
        """Such a matrix as parameters; further dimensions between rows and entries stay."""
        lead = () if self.whole else flat.shape[:-1]
        parts = flat.split([shape.numel() for shape in self.shapes], dim=-1)
        tensors = [part.reshape((*lead, *shape)) for part, shape in zip(parts, self.shapes, strict=True)]
        return tensors[0] if self.names is None else dict(zip(self.names, tensors, strict=True))
