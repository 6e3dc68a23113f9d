"""Groups of source classes: given, in order, by frequency, by what their names mean; of logits or probabilities."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from attacks.errors import InputError
from reprog import Frequency, Iterative, ManyToOne, Random, map_outputs, semantic

NOTHING = torch.zeros(0, dtype=torch.int64)
MEANINGS = {"cat": (1.0, 0.0, 0.1), "lion": (0.9, 0.0, 0.4), "van": (0.0, 1.0, 0.0), "bus": (0.1, 0.9, 0.3)}
MEANINGS |= {"kitten": (1.0, 0.1, 0.0), "feline": (0.95, 0.0, 0.3), "truck": (0.0, 1.0, 0.1)}


def encode(texts: list[str]) -> Tensor:
    return torch.tensor([MEANINGS[text] for text in texts])


def matrix_of(mapping: ManyToOne, sources: int, classes: int) -> Tensor:
    return mapping.find(torch.zeros(0, sources), NOTHING, classes)["matrix"]


def test_groups_in_order_are_shared_out_evenly_and_the_rest_goes_unused() -> None:
    matrix = matrix_of(ManyToOne(), 7, 3)
    assert matrix.T.tolist() == [[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 0.5, 0.5, 0]]


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ("mean", [[0, 0.5, 0, 0.5], [1, 0, 0, 0]]),
        ("sum", [[0, 1, 0, 1], [1, 0, 0, 0]]),
        (((0.25, 0.5), (2.0,)), [[0, 0.5, 0, 0.25], [2, 0, 0, 0]]),
    ],
)
def test_given_groups_weigh_as_they_are_told(weights: object, wanted: list[list[float]]) -> None:
    assert matrix_of(ManyToOne(((3, 1), (0,)), weights), 4, 2).T.tolist() == wanted  # type: ignore[arg-type]


def test_a_source_class_may_serve_several_targets_and_targets_may_outnumber_sources() -> None:
    assert matrix_of(ManyToOne(((0,), (1,), (0,))), 2, 3).tolist() == [[1, 0, 1], [0, 1, 0]]


def test_probabilities_are_summed_or_averaged_before_the_logarithm() -> None:
    outputs = torch.tensor([[0.5, 0.3, 0.2]]).log() + 7  # logits may be shifted as they like
    groups = ((0,), (1, 2))
    for weights, wanted in (("sum", [0.5, 0.5]), ("mean", [0.5, 0.25])):
        tensors = ManyToOne(groups, weights).find(outputs, NOTHING, 2)  # type: ignore[arg-type]
        assert map_outputs(outputs, tensors).exp().allclose(torch.tensor([wanted]))
    warmer = map_outputs(outputs, ManyToOne(groups, "sum", temperature=2.0).find(outputs, NOTHING, 2)).exp()
    roots = torch.tensor([0.5, 0.3, 0.2]).sqrt()
    assert warmer.allclose(torch.stack([roots[0], roots[1] + roots[2]])[None] / roots.sum())
    logits = map_outputs(outputs, ManyToOne(groups, "sum", temperature=None).find(outputs, NOTHING, 2))
    assert logits.allclose(torch.stack([outputs[0, 0], outputs[0, 1] + outputs[0, 2]])[None])


def test_the_loss_of_mean_probabilities_is_that_of_voice2series() -> None:
    outputs, labels = torch.randn(5, 9), torch.tensor([0, 1, 2, 1, 0])
    shares = outputs.softmax(1).view(5, 3, 3).mean(2)
    wanted = -(shares / shares.sum(1, keepdim=True))[torch.arange(5), labels].log().mean()
    assert cross_entropy(map_outputs(outputs, ManyToOne().find(outputs, labels, 3)), labels).allclose(wanted)


@pytest.mark.parametrize("kind", [Frequency, Iterative, Random])
def test_groups_by_frequency_and_by_chance_can_weigh_probabilities_too(kind: Callable[..., Frequency]) -> None:
    outputs, labels = 3 * torch.randn(20, 6), torch.arange(20) % 2
    logits = kind(per_class=2).find(outputs, labels, 2)
    probable = kind(per_class=2, temperature=1.0).find(outputs, labels, 2)
    assert probable["matrix"].equal(logits["matrix"]) and "temperature" not in logits
    assert map_outputs(outputs, probable).exp().allclose(outputs.softmax(1) @ logits["matrix"])


def test_probabilities_that_vanish_give_finite_logits_and_gradients() -> None:
    outputs = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    tensors = ManyToOne(((0,), (1,), (2,))).find(outputs.detach(), NOTHING, 3)
    mapped = map_outputs(outputs, tensors)
    (slope,) = torch.autograd.grad(cross_entropy(mapped, torch.tensor([2])), outputs)
    assert mapped.isfinite().all() and slope.isfinite().all()


def test_lists_are_taken_for_tuples_as_json_gives_them() -> None:
    given = ManyToOne([[0], [2, 1]], [[1.0], [0.5, 0.5]])  # type: ignore[arg-type]
    assert given == ManyToOne(((0,), (2, 1)), ((1.0,), (0.5, 0.5))) and hash(given)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"groups": ((0,), ())}, r"group of target class 1, \(\), is none"),
        ({"groups": ((0, 0), (1,))}, "none twice"),
        ({"groups": ((-1,), (1,))}, "from 0 up"),
        ({"groups": ((0.5,), (1,))}, "whole number"),
        ({"groups": "ab"}, "whole number"),
        ({"weights": "median"}, "choose 'mean' or 'sum'"),
        ({"weights": ((1.0,), (1.0,))}, "not arranged like the groups"),
        ({"weights": ()}, "not arranged like the groups"),
        ({"groups": ((0,), (1,)), "weights": ((1.0,),)}, "not arranged like the groups"),
        ({"groups": ((0,), (1,)), "weights": ((1.0,), (-1.0,))}, "at least 0"),
        ({"groups": ((0,), (1,)), "weights": ((1.0,), (float("nan"),))}, "finite numbers"),
    ],
)
def test_groups_that_are_none_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ManyToOne(**settings)


def test_groups_of_another_task_or_model_are_refused() -> None:
    with pytest.raises(InputError, match="2 groups of source classes came for 3 target classes"):
        matrix_of(ManyToOne(((0,), (1,))), 4, 3)
    with pytest.raises(InputError, match="name source class 4, but the model has 4"):
        matrix_of(ManyToOne(((0,), (4,))), 4, 2)


def test_names_give_each_class_a_source_of_its_own_the_best_pair_first() -> None:
    # "kitten" and "feline" both lie near "cat"; kitten is nearer, so that feline has to take "lion".
    assert semantic(["van", "cat", "lion"], ["feline", "kitten", "truck"], encode).groups == ((2,), (1,), (0,))


def test_names_of_several_sources_a_class() -> None:
    mapping = semantic(["van", "cat", "bus", "lion"], ["kitten", "truck"], encode, per_class=2)
    assert mapping.groups == ((1, 3), (0, 2))
    assert matrix_of(mapping, 4, 2).T.tolist() == [[0, 0.5, 0, 0.5], [0.5, 0, 0.5, 0]]


def test_names_with_a_scale_weigh_the_nearest_by_softmax_and_may_share_them() -> None:
    sources, targets = ["van", "cat"], ["kitten", "feline", "truck"]
    assert matrix_of(semantic(sources, targets, encode, scale=1.0), 2, 3).tolist() == [[0, 0, 1], [1, 1, 0]]
    vectors = {name: np.array(MEANINGS[name]) / np.linalg.norm(MEANINGS[name]) for name in MEANINGS}
    cosines = np.array([[vectors[s] @ vectors[t] for t in targets] for s in sources])
    wanted = np.exp(5 * cosines) / np.exp(5 * cosines).sum(0)
    found = matrix_of(semantic(sources, targets, encode, scale=5.0, per_class=9), 2, 3)
    assert np.allclose(found.numpy(), wanted, atol=1e-6)


def test_names_classify_without_any_labelled_sample() -> None:
    mapping = semantic(["van", "cat", "bus", "lion"], ["kitten", "truck"], encode, per_class=2)
    outputs = 4.0 * one_hot(torch.tensor([3, 2, 1, 0]), 4).float()
    tensors = mapping.find(outputs[:0], NOTHING, 2)
    assert map_outputs(outputs, tensors).argmax(1).tolist() == [0, 1, 0, 1]
    assert replace(mapping, temperature=None) == semantic(
        ["van", "cat", "bus", "lion"], ["kitten", "truck"], encode, per_class=2, temperature=None
    )


def test_the_length_of_vectors_does_not_matter_and_arrays_will_do() -> None:
    def longer(texts: list[str]) -> np.ndarray:
        return (encode(texts) * torch.arange(1, len(texts) + 1)[:, None]).double().numpy()

    names = ["van", "cat", "lion"], ["feline", "kitten", "truck"]
    assert semantic(*names, longer) == semantic(*names, encode)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source_names": None}, "class_names is None"),
        ({"source_names": ["cat"]}, "needs 2 source classes of its own, but the model has 1"),
        ({"source_names": "cat"}, "source names must be a list"),
        ({"target_names": []}, "target names must be a list"),
        ({"target_names": ["cat", " "]}, "none of them empty"),
        ({"encode": lambda texts: torch.ones(len(texts), 2, 3)}, r"shape \(2, 2, 3\).*pool its tokens"),
        ({"encode": lambda texts: torch.zeros(len(texts), 3)}, "nothing but zeros"),
        ({"encode": lambda texts: torch.full((len(texts), 3), torch.nan)}, "hold NaN"),
        ({"per_class": 0}, "per_class=0 must be a whole number from 1 up"),
        ({"scale": 0.0}, "scale=0.0 one above 0 or None"),
    ],
)
def test_names_and_encoders_that_cannot_be_used_are_refused(changes: dict, sentence: str) -> None:
    usual = {"source_names": ["cat", "van"], "target_names": ["kitten", "truck"], "encode": encode}
    with pytest.raises(InputError, match=sentence):
        semantic(**(usual | changes))
