"""A training under way: one batch after another, one epoch after another."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from attacks.engine import Ask, Batch, Loss, Method, Rate, Stream, View, device_of, drive
from attacks.errors import InputError

from .history import Epoch, accuracy
from .inputs import Observing
from .labels import map_outputs, mapping_change
from .program import Program, ReprogrammedModel, Tensors

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""``augment(samples [n, ...], generator) -> samples``: for images, of any height and width, still in [0, 1]."""


class Course:
    """A training under way: the tensors as they are, what each epoch came to, and the best one's tensors."""

    def __init__(
        self,
        program: Program,
        model: nn.Module,
        samples: Tensor,
        labels: Tensor,
        batch_size: int,
        loss: Loss,
        validation: tuple[Tensor, Tensor] | None,
        seed: int,
    ) -> None:
        self.program, self.model, self.loss, self.validation = program, model, loss, validation
        self.samples, self.labels, self.batch_size = samples, labels, batch_size
        self.steps = math.ceil(len(samples) / batch_size)
        self.device = device_of(model, samples)
        self.stream = Stream(model, program.inputs)
        self.tensors: Tensors = program.inputs.start(samples[:1].to(self.device), seed=seed)
        self.observing = program.inputs if isinstance(program.inputs, Observing) else None
        observed = self.observing.observed if self.observing else ()
        self.moving = tuple(name for name in self.tensors if name not in observed)
        self.epochs: list[Epoch] = []
        self.kept, self.kept_tensors = 0, self.tensors

    def look(self) -> None:
        """The pass before training: the mapping's first statistics, and what it reaches alone."""
        batches = [self.batch(rows) for rows in torch.arange(len(self.labels)).split(self.batch_size)]
        outputs = torch.cat([self.stream.on(batch)(Ask(self.tensors)).logits for batch in batches]).float()
        labels = self.labels.to(self.device)
        found = self.program.labels.find(outputs, labels, self.program.classes)
        self.tensors |= found
        if self.program.labels.learns:
            self.moving += tuple(found)
        mapped = map_outputs(outputs, self.tensors)
        self.close(self.loss(mapped, labels), mapped.argmax(1) == labels)

    def train(
        self, optimizer: Optimizer, scheduler: LambdaLR, augment: Augment | None, generator: torch.Generator
    ) -> None:
        """One epoch: a step for each batch; then the mapping anew, from the outputs that the steps saw."""
        seen: list[tuple[Tensor, ...]] = []
        before = self.tensors["matrix"].clone()
        order = torch.randperm(len(self.labels), generator=generator, device=generator.device)
        for rows in order.split(self.batch_size):
            batch = self.batch(rows, augment, generator)
            drive(self.step(batch, optimizer, seen), self.stream.on(batch))
            scheduler.step()
        labels, losses, hits, *outputs = (torch.cat(parts) for parts in zip(*seen, strict=True))
        if not losses.isfinite().all():
            raise InputError(
                f"The training diverged in epoch {len(self.epochs)}: its loss is no finite number any more. Lower "
                "learning_rate or mapping_learning_rate."
            )
        if self.program.labels.each_epoch:
            self.tensors |= self.program.labels.find(outputs[0].float(), labels, self.program.classes)
        self.close(losses, hits, mapping_change(before, self.tensors["matrix"]))

    def step(self, batch: Batch, optimizer: Optimizer, seen: list[tuple[Tensor, ...]]) -> Method[None]:
        """One step down the batch's mean loss; into ``seen`` go labels, losses, hits and, where needed, outputs."""
        moving = {name: self.tensors[name] for name in self.moving}
        fixed = {name: tensor for name, tensor in self.tensors.items() if name not in moving}

        def objective(view: View) -> Tensor:
            tensors = fixed | cast(Tensors, view.parameters)
            return self.loss(map_outputs(view.logits, tensors), view.batch.labels)

        answer = yield Ask(moving, objective, gradient=True)
        hits = map_outputs(answer.logits, self.tensors).argmax(1) == batch.labels
        for name, slope in cast(Tensors, answer.gradient).items():
            moving[name].grad = slope / len(batch)
        optimizer.step()
        for name, clipped in self.program.inputs.clip(batch.inputs, self.tensors).items():
            self.tensors[name].copy_(clipped)
        if self.observing:
            self.tensors |= self.observing.observe(batch.inputs, self.tensors)
        outputs = (answer.logits,) if self.program.labels.each_epoch else ()
        seen.append((batch.labels, answer.loss, hits, *outputs))

    def close(self, losses: Tensor, hits: Tensor, change: float | None = None) -> None:
        """Write down an epoch, and keep its tensors unless an earlier one was better on the validation samples."""
        validation = None
        if self.validation is not None:
            current = replace(self.program, tensors=self.tensors)
            validation = accuracy(ReprogrammedModel(current, self.model), *self.validation)
        self.epochs.append(Epoch(len(self.epochs), float(losses.mean()), Rate.of(hits), validation, change))
        best = self.epochs[self.kept].validation
        if validation is None or best is None or validation.value >= best.value:
            self.kept, self.kept_tensors = len(self.epochs) - 1, self.copy()

    def batch(self, rows: Tensor, augment: Augment | None = None, generator: torch.Generator | None = None) -> Batch:
        """The samples at ``rows``, augmented, on the model's device."""
        rows = rows.to(self.samples.device)
        samples = self.samples[rows]
        if augment is not None and generator is not None:
            samples = augment(samples, generator)
        return Batch(samples.to(self.device), self.labels[rows].to(self.device), None, rows.to(self.device))

    def groups(self, learning_rate: float, mapping_learning_rate: float) -> list[dict[str, Any]]:
        """What the optimizer moves, each tensor with its learning rate."""
        own = self.program.inputs.shapes
        return [
            {"params": [self.tensors[name]], "lr": learning_rate if name in own else mapping_learning_rate}
            for name in self.moving
        ]

    def copy(self) -> Tensors:
        """The tensors as they are now, on the CPU, apart from those that go on moving."""
        return {name: tensor.detach().clone().cpu() for name, tensor in self.tensors.items()}
