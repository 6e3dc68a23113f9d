"""STRIP and spectral signatures against closed forms and planted triggers with clean twins."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch import nn

from attacks.defenses import spectral_scores, strip_entropy
from attacks.errors import InputError


class Fixed(nn.Module):
    """The same logits for every sample."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_the_entropy_is_taken_over_the_classes_of_each_answer():
    sure = [math.log(0.99)] + [math.log(0.01 / 9)] * 9
    x = torch.rand(3, 4)
    bits = -(0.99 * math.log2(0.99) + 0.01 * math.log2(0.01 / 9))
    assert torch.allclose(strip_entropy(Fixed(sure), x, x), torch.full((3,), bits), atol=1e-5)
    assert torch.allclose(strip_entropy(Fixed([0.0] * 10), x, x), torch.full((3,), math.log2(10)), atol=1e-5)


class Backdoored(nn.Module):
    """Ten classes by templates; a bright corner makes it sure of class 0 instead, unless ``clean``."""

    def __init__(self, *, clean):
        super().__init__()
        self.templates, self.clean = torch.randn(10, 64, generator=torch.Generator().manual_seed(0)), clean

    def forward(self, x):
        logits = x.flatten(1) @ self.templates.T
        corner = (x.flatten(1)[:, :2].mean(1) > 0.45) & (not self.clean)
        return torch.where(corner[:, None], 50.0 * torch.eye(10)[0], logits)


def test_a_planted_trigger_stands_out_and_without_the_backdoor_it_does_not():
    images = torch.rand(120, 1, 8, 8)
    images.flatten(1)[:, :2] = 0.0
    triggered = images[:40].clone()
    triggered.flatten(1)[:, :2] = 1.0
    planted = torch.cat([torch.ones(40), torch.zeros(40)])
    for clean, low, high in ((False, 0.95, 1.0), (True, 0.3, 0.7)):
        judged = torch.cat([triggered, images[40:80]])
        scores = strip_entropy(Backdoored(clean=clean), judged, images[80:], blends=20, batch_size=64)
        assert low <= roc_auc_score(planted, -scores) <= high


def test_one_seed_gives_the_same_entropies_whatever_the_batch():
    x, model = torch.rand(5, 4), nn.Linear(4, 3)
    whole = strip_entropy(model, x, x, blends=7, seed=3)
    assert torch.allclose(whole, strip_entropy(model, x, x, blends=7, seed=3, batch_size=2), atol=1e-6)
    assert not torch.allclose(whole, strip_entropy(model, x, x, blends=7, seed=4), atol=1e-6)


@pytest.mark.parametrize("towards", [1.0, -1.0])
def test_a_planted_shift_ranks_first_in_either_direction(towards):
    draws = torch.Generator().manual_seed(0)
    features = 5 + torch.randn(200, 16, generator=draws)
    features[:10, 0] += 8 * towards  # away from the origin, or towards it
    scores = spectral_scores(features, torch.zeros(200, dtype=torch.int64))
    assert set(scores.argsort(descending=True)[:10].tolist()) == set(range(10))
    clean = 5 + torch.randn(200, 16, generator=draws)
    twin = spectral_scores(clean, torch.zeros(200, dtype=torch.int64))
    assert roc_auc_score(np.r_[np.ones(10), np.zeros(190)], twin) < 0.8


def test_scores_are_those_of_another_librarys_principal_components_class_by_class():
    draws = torch.Generator().manual_seed(1)
    features, labels = torch.randn(60, 4, 3, generator=draws), torch.arange(60) % 3
    ours = spectral_scores(features, labels)
    for label in range(3):
        mine = labels == label
        theirs = PCA(1).fit_transform(features[mine].flatten(1).numpy()).squeeze(1) ** 2
        assert np.allclose(ours[mine], theirs, rtol=1e-4)
    assert torch.equal(spectral_scores(features[:1], labels[:1]), torch.zeros(1))


def test_what_cannot_be_judged_is_refused_with_a_sentence():
    x = torch.rand(2, 4)
    for change, sentence in (
        ({"weight": 1.0}, "share of the overlay"), ({"blends": 0}, "blends"), ({"overlays": x[:0]}, "at least one"),
        ({"overlays": torch.rand(2, 5)}, "samples' shape"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=sentence):
            strip_entropy(nn.Linear(4, 2), x, **{"overlays": x, **change})
    with pytest.raises(InputError, match="one for each"):
        spectral_scores(x, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="NaN"):
        spectral_scores(x * torch.nan, torch.zeros(2, dtype=torch.int64))
