"""Embedding: the mark gets in, the original stays as it was, and a twin without the mark is not verified."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from attacks.engine import frozen, weights_hash
from attacks.errors import InputError
from attacks.models import LoadedModel, Preprocessing
from watermark import Mark, OwnerKey, embed, verify
from watermark.schemes.batchnorm import clean_statistics

KEY = OwnerKey(bytes(range(32)))


@pytest.fixture(scope="module")
def digits():
    content = load_digits()
    images = torch.tensor(content.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(content.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


def network(norm):
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16) if norm else nn.Identity(), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32) if norm else nn.Identity(), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


@pytest.fixture(scope="module")
def with_norm(digits):
    return train(network(norm=True), *digits)


@pytest.fixture(scope="module")
def without_norm(digits):
    return train(network(norm=False), *digits)


def train(model, images, labels):
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(6):
        for rows in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model.train()


@pytest.mark.parametrize("kind", ["with_norm", "without_norm"])
def test_a_mark_gets_in_at_little_cost_and_is_verified_against_the_unmarked_twin(kind, request, digits):
    trained, (images, labels) = request.getfixturevalue(kind), digits
    validation = images[1200:], labels[1200:]
    mark = Mark(family="shapes", n=40, classes=10, shape=(1, 8, 8), nonce="test")
    before, modes = weights_hash(trained), [module.training for module in trained.modules()]
    flags = [weight.requires_grad_(index != 1).requires_grad for index, weight in enumerate(trained.parameters())]
    marked, report = embed(trained, mark, KEY, images[:1000], validation=validation)
    assert weights_hash(trained) == before == report.original
    for model in (trained, marked):
        assert [module.training for module in model.modules()] == modes
        assert [weight.requires_grad for weight in model.parameters()] == flags
    assert report.marked == weights_hash(marked) != before
    assert report.after.matches >= 38 and report.before.p_value > 1e-3
    assert report.clean_before.n == len(validation[0]) and report.clean_after.value > report.clean_before.value - 0.03
    verdict = verify(marked, mark, KEY, unmarked=trained, clean=validation)
    assert verdict.verified and verdict.matches == report.after.matches and verdict.clean == report.clean_after
    assert verdict.unmarked == report.before and max(wrong.matches for wrong in verdict.wrong_keys) < verdict.needed
    assert not verify(trained, mark, KEY).verified


def test_the_mark_survives_batch_statistics_estimated_anew(with_norm, digits):
    images = digits[0]
    carriers = (images[1000:1200] * 255).round().to(torch.uint8)
    mark = Mark(classes=10, carriers=carriers, nonce="anew")
    marked, report = embed(with_norm, mark, KEY, images[:1000], steps=150)
    layers, originals = ([m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] for model in (marked, with_norm))
    assert all(torch.equal(a.running_var, b.running_var) for a, b in zip(layers, originals, strict=True))
    marked.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train().momentum = None  # a plain average over what comes
    marked(images[:1000])
    anew = verify(marked, mark, KEY, wrong_keys=0)
    assert report.after.matches >= 85 and anew.matches >= 80  # 58 where running statistics alone are trained with


def test_a_loaded_model_keeps_its_preprocessing(digits):
    images = digits[0][:60].repeat(1, 3, 1, 1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    preprocessing = Preprocessing(mean=[0.5] * 3, std=[0.25] * 3)
    model = LoadedModel(network, preprocessing, name="small", source="small", classes=10)
    mark = Mark(family="shapes", n=10, classes=10, shape=(3, 8, 8), nonce="loaded")
    marked, report = embed(model, mark, KEY, images, steps=60)
    assert isinstance(marked, LoadedModel) and marked.preprocessing.mean is not model.preprocessing.mean
    assert report.after.matches == 10 and verify(marked, mark, KEY, unmarked=model).verified


def test_blends_of_two_classes_get_in(digits):
    images, labels = digits
    rows = labels < 2
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2))
    carriers = (images[rows][:80] * 255).round().to(torch.uint8)
    mark = Mark(classes=2, n=30, carriers=carriers, nonce="two")
    marked, report = embed(model, mark, KEY, images[rows][80:], steps=300, learning_rate=3e-3)
    assert report.after.matches == 30 and report.clean_after is None and "not measured" in str(report)
    assert verify(marked, mark, KEY, unmarked=model).verified


def test_the_same_seed_gives_the_same_marked_model(digits):
    model, mark = network(norm=True), Mark(family="shapes", n=10, classes=10, shape=(1, 8, 8), nonce="seed")
    runs = [embed(model, mark, KEY, digits[0][:100], steps=3, seed=seed)[1].marked for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_the_callers_random_state_is_left_alone(digits):
    model, mark = network(norm=False), Mark(family="shapes", n=4, classes=10, shape=(1, 8, 8), nonce="rng")
    state = torch.get_rng_state()
    embed(model, mark, KEY, digits[0][:50], steps=2)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_sees_the_clean_rows_alone(dims, affine):
    torch.manual_seed(0)
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    layer = kind(4, affine=affine)
    twin, clean, triggers = copy.deepcopy(layer), torch.randn(9, 4, *[3] * dims), 50 + torch.randn(5, 4, *[3] * dims)
    before = weights_hash(layer)
    with frozen(layer), clean_statistics(layer, 9):
        mixed = layer(torch.cat([clean, triggers]))
    assert torch.allclose(mixed[:9], twin(clean), atol=1e-5)  # the twin, in training mode, sees the clean rows alone
    assert mixed[9:].mean() > 10  # triggers are scaled as clean rows are, not to a mean of 0
    assert weights_hash(layer) == before
    assert torch.equal(layer.eval()(clean), copy.deepcopy(layer)(clean))
    assert torch.allclose(layer(clean), clean / (1 + layer.eps) ** 0.5, atol=1e-5)  # the hook is gone


def test_a_batch_norm_with_a_forward_of_its_own_keeps_what_it_adds():
    class Activated(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    layer, x = Activated(4).eval(), torch.randn(9, 4, 3, 3)
    with torch.no_grad(), clean_statistics(layer, 5):
        inside = layer(x)
    assert torch.equal(inside, layer(x)) and inside.min() == 0


def test_refused_arguments(digits):
    images, labels = digits
    mark = Mark(family="shapes", n=4, classes=10, shape=(1, 8, 8))
    with pytest.raises(InputError, match="logits \\[n, 7\\]"):
        embed(network(norm=False), Mark(family="shapes", n=4, classes=7, shape=(1, 8, 8)), KEY, images[:9])
    with pytest.raises(InputError, match="at least 1"):
        embed(network(norm=False), mark, KEY, images[:9], steps=0)
    with pytest.raises(InputError, match="scale them"):
        embed(network(norm=False), mark, KEY, images[:9] * 255)
    with pytest.raises(InputError, match="upsample or crop"):
        embed(network(norm=False), mark, KEY, images[:9, :, :4])
    with pytest.raises(InputError, match="labels contain -1"):
        embed(network(norm=False), mark, KEY, images[:9], validation=(images[:9], labels[:9] * 0 - 1))


@pytest.mark.parametrize("rate", [0, -1e-3, float("nan")])
def test_a_learning_rate_that_is_none_is_refused(rate):
    mark = Mark(family="shapes", n=10, classes=2, shape=(1, 8, 8), nonce="example")
    with pytest.raises(InputError, match="is no rate"):
        embed(nn.Linear(1, 1), mark, KEY, torch.rand(4, 1, 8, 8), learning_rate=rate)
