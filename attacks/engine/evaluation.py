"""Putting one ask to a model, for every sample of a batch."""

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from .asks import Answer, Ask, Batch, Parameters, View
from .objectives import missed_or_hit
from .perturbations import Perturbation


def evaluate(model: nn.Module, perturbation: Perturbation, ask: Ask, batch: Batch) -> tuple[Answer, Tensor]:
    """Put one ask to the model, for every sample of a batch.

    The gradient is that of the *summed* objective, in the ask's parameters alone; hold the model in
    :func:`~attacks.engine.frozen.frozen` so that none is computed for its weights.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        perturbation: makes the inputs from the samples and the ask's parameters.
        ask: the question; its parameters have one row per sample of the batch, or are shared.
        batch: the samples.

    Returns:
        The answer, and the inputs that were made, shape ``[n, ...]``.

    Raises:
        InputError: when a gradient is asked for and the model's outputs carry none.

    Example:
        >>> from attacks.engine import Additive, cross_entropy, untargeted
        >>> x = torch.zeros(2, 3)
        >>> batch = Batch(x, torch.tensor([0, 1]), None, torch.arange(2))
        >>> ask = Ask(x, untargeted(cross_entropy), gradient=True)
        >>> evaluate(nn.Identity(), Additive(), ask, batch)[0].slope()
        tensor([[ 0.6667, -0.3333, -0.3333],
                [-0.3333,  0.6667, -0.3333]])
    """
    parameters, moving = _leaves(ask.parameters, ask.moving) if ask.gradient else (ask.parameters, ask.parameters)
    with torch.set_grad_enabled(ask.gradient):
        inputs = perturbation(batch.inputs, parameters)
        logits = logits_of(model, inputs if ask.through is None else ask.through(inputs), batch.classes)
        loss = logits.new_zeros(len(batch))
        if ask.objective is not None:
            loss = ask.objective(View(logits, inputs, parameters, batch))
    # Named parameters may play no part at a point; a single tensor always does.
    reached = loss.requires_grad or isinstance(moving, dict)
    if ask.gradient and not (reached and logits.requires_grad >= inputs.requires_grad):
        if torch.is_inference_mode_enabled():
            raise InputError("torch.inference_mode forbids gradients: leave it, or use torch.no_grad instead.")
        raise InputError(
            "The method asks for a gradient, but the model's outputs carry none: use a model whose forward pass is "
            "differentiable and not behind access without gradients, or an attack that needs only scores or labels."
        )
    with torch.set_grad_enabled(ask.gradient):
        gradient = _gradient(loss, moving) if ask.gradient else None
    fooled = missed_or_hit(logits.detach(), batch.labels, batch.targets)
    return Answer(logits.detach(), fooled, loss.detach(), gradient), inputs.detach()


def logits_of(model: nn.Module, inputs: Tensor, classes: int = 0) -> Tensor:
    """A model's answer to inputs of shape ``[n, ...]``, float32, shape ``[n, classes]``.

    Args:
        model: maps inputs to logits.
        inputs: what is sent to it.
        classes: how many classes it must tell apart at least.

    Raises:
        InputError: when it answers with something else than one row of logits for each sample, or with fewer classes.

    Example:
        >>> logits_of(nn.Linear(4, 1), torch.zeros(2, 4))
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: The model answers with a tensor of shape (2, 1) to 2 samples, but must give logits \
of shape [n, classes] with at least 2 classes: wrap it so that it does (one logit z for two classes: stack 0 and z).
    """
    try:
        logits = model(inputs)
    except RuntimeError as error:
        weights = next((weight for weight in model.parameters() if weight.is_floating_point()), inputs)
        if weights.dtype == inputs.dtype:
            raise
        raise InputError(
            f"The model's weights are {weights.dtype}, but inputs are {inputs.dtype}, in which success is judged: hand "
            "over model.float(), or wrap the model so that it converts its inputs."
        ) from error
    if not isinstance(logits, Tensor):
        raise InputError(
            f"The model answers with a {type(logits).__name__}, but must give a tensor of logits, shape [n, classes]: "
            "hold it with load_model, or wrap it in a module that returns the logits alone."
        )
    if logits.dim() != 2 or len(logits) != len(inputs) or logits.shape[1] < 2:
        raise InputError(
            f"The model answers with a tensor of shape {tuple(logits.shape)} to {len(inputs)} samples, but must give "
            "logits of shape [n, classes] with at least 2 classes: wrap it so that it does (one logit z for two "
            "classes: stack 0 and z)."
        )
    if logits.shape[1] < classes:
        raise InputError(
            f"The labels or targets go up to {classes - 1}, but the model has {logits.shape[1]} classes, "
            f"0 to {logits.shape[1] - 1}: hand over the labels that the model was trained with."
        )
    return logits.float()


def _leaves(parameters: Parameters, moving: tuple[str, ...] | None) -> tuple[Parameters, Parameters]:
    """The parameters, and those of them that a gradient is taken in."""
    if isinstance(parameters, Tensor):
        leaf = parameters.detach().requires_grad_()
        return leaf, leaf
    names = parameters if moving is None else moving
    leaves = {name: parameters[name].detach().requires_grad_() for name in names}
    return {**parameters, **leaves}, leaves


def _gradient(loss: Tensor, parameters: Parameters) -> Parameters:
    if isinstance(parameters, Tensor) and loss.dim() == 2:
        last = loss.shape[1] - 1
        each = [torch.autograd.grad(one, parameters, retain_graph=i < last)[0] for i, one in enumerate(loss.sum(0))]
        return torch.stack(each, dim=1)
    if isinstance(parameters, Tensor):
        return torch.autograd.grad(loss.sum(), parameters)[0]
    # A tensor that the objective does not read (a mapping's weights, say) has a gradient of zero.
    if not loss.requires_grad:
        return {name: torch.zeros_like(value) for name, value in parameters.items()}
    slopes = torch.autograd.grad(loss.sum(), list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, slopes, strict=True))
