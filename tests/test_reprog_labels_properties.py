"""What holds for every mapping, whatever the samples are, and the papers' formulas as plain loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from reprog import Bayesian, BayesianPlus, Frequency, Iterative, Linear, Mapping, Similarity, map_outputs
from reprog.labels import LABELS
from reprog.labels.one_to_one import assign_greedily

FROM_STATISTICS: list[Mapping] = [Bayesian(), BayesianPlus(top_share=0.8), Linear(), Similarity(), Similarity(2)]
FROM_COUNTS: list[Mapping] = [Frequency(), Iterative(), Frequency(2, temperature=1.0), Bayesian(), BayesianPlus()]


def drawn(seed: int, sources: int, classes: int) -> tuple[Tensor, Tensor]:
    """Outputs without ties, and labels of all classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4 * classes, sources, generator=generator), torch.arange(4 * classes) % classes


def counted(counts: list[int], sources: int) -> tuple[Tensor, Tensor]:
    """Outputs and labels of so many samples for each pair of source and target class, row by row of the table."""
    number = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    classes = len(counts) // sources
    return 5.0 * one_hot(number // classes, sources).float(), number % classes


def permuted_alike(mapping: Mapping, outputs: Tensor, labels: Tensor, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(outputs.shape[1], generator=generator), torch.randperm(classes, generator=generator)
    before = mapping.find(outputs, labels, classes)
    after = mapping.find(outputs[:, rows], columns.argsort()[labels], classes)
    atol = 2e-3 if mapping.learns else 1e-5
    assert after["matrix"].allclose(before["matrix"][rows][:, columns], atol=atol)
    assert "bias" not in before or after["bias"].allclose(before["bias"][columns], atol=atol)


@pytest.mark.parametrize("mapping", FROM_STATISTICS, ids=repr)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**30), sources=st.integers(6, 9), classes=st.integers(2, 3))
def test_permuting_classes_permutes_the_matrix(mapping: Mapping, seed: int, sources: int, classes: int) -> None:
    permuted_alike(mapping, *drawn(seed, sources, classes), classes, seed + 1)


@pytest.mark.parametrize("mapping", FROM_COUNTS, ids=repr)
@settings(max_examples=25, deadline=None)
@given(counts=st.permutations(range(10)), seed=st.integers(0, 2**30))
def test_permuting_classes_permutes_what_distinct_counts_give(mapping: Mapping, counts: list[int], seed: int) -> None:
    permuted_alike(mapping, *counted(counts, sources=5), 2, seed)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), sources=st.integers(2, 7), classes=st.integers(2, 4), per_class=st.integers(1, 2))
def test_greedy_assignment_goes_down_the_sorted_scores(
    data: st.DataObject, sources: int, classes: int, per_class: int
) -> None:
    """ILM's order as one walk down the list of all pairs, the highest score first, instead of a table being closed."""
    if sources < classes * per_class:
        return
    size = sources * classes
    counts = data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    pairs = sorted((-counts[s * classes + t], s, t) for s in range(sources) for t in range(classes))
    taken: dict[int, int] = {}
    for _, source, target in pairs:
        if source not in taken and list(taken.values()).count(target) < per_class:
            taken[source] = target
    matrix = assign_greedily(torch.tensor(counts).float().view(sources, classes), per_class)
    assert dict(matrix.nonzero().tolist()) == taken


@settings(max_examples=50, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12),
    smoothing=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_bayesian_is_the_papers_formula(pairs: list[tuple[int, int]], smoothing: float) -> None:
    columns = []
    for target in range(3):
        column = []
        for source in range(4):
            total = sum(pair[0] == source for pair in pairs)
            column.append(pairs.count((source, target)) / (total + smoothing))
        columns.append([weight / sum(column) for weight in column] if sum(column) else [1 / 4] * 4)
    sources, labels = torch.tensor(pairs).T
    matrix = Bayesian(smoothing).find(5.0 * one_hot(sources, 4).float(), labels, 3)["matrix"]
    assert matrix.allclose(torch.tensor(columns).T, atol=1e-5)
    assert matrix.sum(0).allclose(torch.ones(3))


@pytest.mark.parametrize("kind", sorted(LABELS))
def test_a_class_without_samples_and_one_that_is_never_predicted_are_mapped(kind: str) -> None:
    outputs, labels = 5.0 * one_hot(torch.tensor([2, 2, 2]), 6).float(), torch.tensor([0, 0, 2])
    found = LABELS[kind]().find(outputs, labels, 4)
    assert map_outputs(outputs, found).isfinite().all()
    assert found["matrix"].shape == (6, 4)


def test_counts_decide_before_sources_that_are_left_over() -> None:
    # Class 1 has no sample, and must not take source 0 or 1 from the classes that were predicted there.
    outputs, labels = 5.0 * one_hot(torch.tensor([0, 0, 1]), 4).float(), torch.tensor([2, 2, 0])
    for mapping in (Frequency(), Similarity()):
        matrix = mapping.find(outputs, labels, 3)["matrix"]
        assert matrix.argmax(0)[[0, 2]].tolist() == [1, 0] and matrix[[0, 1], 1].sum() == 0
