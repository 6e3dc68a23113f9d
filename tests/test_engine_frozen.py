"""A frozen model stays as it was, and the proof finds whatever did not."""

import copy

import pytest
import torch
from torch import nn

from attacks.engine import frozen, tensor_hashes, weights_hash
from attacks.errors import FrozenModelError


def model() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    net.register_buffer("hidden", torch.zeros(2), persistent=False)
    return net.train()


def test_the_hash_sees_every_value_name_shape_and_type():
    net = model()
    before = weights_hash(net)
    assert before == weights_hash(copy.deepcopy(net))
    assert set(tensor_hashes(net)) >= {"0.weight", "1.running_mean", "1.num_batches_tracked", "hidden"}
    for change in (
        lambda m: m[0].weight.data[0, 0].add_(1e-6),
        lambda m: m[1].running_mean.add_(1e-6),
        lambda m: m.hidden.add_(1),
        lambda m: m.register_buffer("more", torch.zeros(1)),
        lambda m: setattr(m, "hidden", torch.zeros(1, 2)),
        lambda m: setattr(m, "hidden", torch.zeros(2, dtype=torch.float64)),
    ):
        other = copy.deepcopy(net)
        change(other)
        assert weights_hash(other) != before


def test_the_hash_does_not_depend_on_memory_format_or_gradients():
    net = nn.Conv2d(3, 4, 3)
    before = weights_hash(net)
    assert weights_hash(net.to(memory_format=torch.channels_last).requires_grad_(False)) == before
    assert weights_hash(nn.ReLU()) == weights_hash(nn.Tanh())  # no tensors at all


def test_modes_and_flags_come_back_even_after_an_error():
    net = model()
    net[0].bias.requires_grad_(False)
    net[1].eval()
    with pytest.raises(RuntimeError, match="on purpose"), frozen(net):
        assert not net.training and not any(p.requires_grad for p in net.parameters())
        raise RuntimeError("on purpose")
    assert net.training and not net[1].training
    assert net[0].weight.requires_grad and not net[0].bias.requires_grad


def write_weight(net):
    net[0].weight.data[1, 2] += 1e-4


def write_statistics(net):
    net[1].running_var.mul_(1.01)


def add_buffer(net):
    net.register_buffer("late", torch.zeros(1))


@pytest.mark.parametrize(
    ("change", "name"), [(write_weight, "0.weight"), (write_statistics, "1.running_var"), (add_buffer, "late")]
)
def test_the_proof_names_the_tensor_that_changed(change, name):
    net = model()
    with pytest.raises(FrozenModelError, match=f"'{name}'"), frozen(net, prove=True):
        change(net)


def test_a_gradient_that_reaches_the_backbone_is_an_error():
    net = model()
    with pytest.raises(FrozenModelError, match="A gradient reached the weight '0.weight'"), frozen(net, prove=True):
        net[0].weight.requires_grad_(True)
        net(torch.rand(5, 4)).sum().backward()


def test_leaving_evaluation_mode_is_an_error():
    net = model()
    with pytest.raises(FrozenModelError, match="left evaluation mode at '1'"), frozen(net, prove=True):
        net[1].train()


def test_a_model_that_was_left_alone_passes():
    net = model()
    before = weights_hash(net)
    with frozen(net, prove=True):
        net(torch.rand(5, 4))
    assert weights_hash(net) == before
