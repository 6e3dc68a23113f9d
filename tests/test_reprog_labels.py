import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from attacks.errors import InputError
from reprog import (
    Bayesian,
    BayesianPlus,
    Frequency,
    Iterative,
    Linear,
    ManyToOne,
    Random,
    Similarity,
    map_outputs,
    strongest_sources,
)
from reprog.labels import LABELS
from reprog.labels.one_to_one import assign_greedily, count_predictions


def predicting(*sources: int, of: int) -> torch.Tensor:
    return 5.0 * one_hot(torch.tensor(sources), of).float()


def test_predictions_are_counted_by_source_and_target() -> None:
    counts = count_predictions(predicting(2, 2, 0, 2, of=3), torch.tensor([0, 0, 1, 1]), 2)
    assert counts.tolist() == [[0, 1], [0, 0], [2, 1]]


def test_greedy_assignment_takes_the_highest_score_first_and_uses_no_source_twice() -> None:
    # Class 1 alone would take source 0 as well; the larger count of class 0 comes first.
    matrix = assign_greedily(torch.tensor([[9.0, 8.0], [7.0, 2.0], [0.0, 3.0]]))
    assert matrix.tolist() == [[1, 0], [0, 0], [0, 1]]


def test_greedy_assignment_of_several_sources_averages_them() -> None:
    matrix = assign_greedily(torch.tensor([[9.0, 8.0], [7.0, 2.0], [6.0, 3.0], [5.0, 0.0]]), per_class=2)
    assert matrix.tolist() == [[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]]


def test_greedy_assignment_without_any_count_takes_the_lowest_source_that_is_left() -> None:
    assert assign_greedily(torch.tensor([[0.0, 4.0], [0.0, 0.0], [0.0, 0.0]])).tolist() == [[0, 1], [1, 0], [0, 0]]


def test_frequency_and_iterative_differ_only_in_when_they_are_found() -> None:
    outputs, labels = predicting(1, 1, 2, of=4), torch.tensor([0, 0, 1])
    assert Frequency().find(outputs, labels, 2)["matrix"].equal(Iterative().find(outputs, labels, 2)["matrix"])
    assert (Frequency.each_epoch, Iterative.each_epoch) == (False, True)


def test_random_gives_each_class_its_own_sources_and_follows_its_seed() -> None:
    outputs, labels = torch.zeros(1, 20), torch.tensor([0])
    matrix = Random(per_class=3, seed=5).find(outputs, labels, 4)["matrix"]
    assert (matrix > 0).sum(0).tolist() == [3] * 4
    assert int((matrix > 0).sum(1).max()) == 1
    assert matrix.sum(0).allclose(torch.ones(4))
    assert matrix.equal(Random(per_class=3, seed=5).find(outputs, labels, 4)["matrix"])
    assert not matrix.equal(Random(per_class=3, seed=6).find(outputs, labels, 4)["matrix"])


def test_bayesian_matches_the_matrix_worked_out_by_hand() -> None:
    # Counts: source 0 -> (2, 1), source 1 -> (0, 1), source 2 -> (0, 0).
    # Given the source, with 1 added: (2/4, 1/4), (0, 1/2), (0, 0); columns scaled to sum to 1.
    matrix = Bayesian().find(predicting(0, 0, 0, 1, of=3), torch.tensor([0, 0, 1, 1]), 2)["matrix"]
    assert matrix.allclose(torch.tensor([[1.0, 1 / 3], [0.0, 2 / 3], [0.0, 0.0]]))


def test_bayesian_plus_matches_the_matrix_worked_out_by_hand() -> None:
    # Probabilities .6 .3 .1 for class 0 and .2 .7 .1 for class 1; top_share 1 of 2 classes keeps two sources each.
    outputs = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]).log()
    matrix = BayesianPlus(top_share=1.0).find(outputs, torch.tensor([0, 1]), 2)["matrix"]
    given = torch.tensor([[0.6 / 1.8, 0.2 / 1.8], [0.3 / 2.0, 0.7 / 2.0], [0.0, 0.0]])
    assert matrix.allclose(given / given.sum(0))


@pytest.mark.parametrize("classes", [2, 6, 7, 20])
def test_bayesian_plus_keeps_at_least_one_source_and_at_most_all(classes: int) -> None:
    labels = torch.arange(classes)
    matrix = BayesianPlus().find(torch.randn(classes, 2), labels, classes)["matrix"]
    assert matrix.shape == (2, classes)
    assert matrix.sum(0).allclose(torch.ones(classes))


def test_linear_starts_as_the_logistic_regression_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    outputs = torch.randn(60, 8, generator=generator) * 3 + one_hot(labels, 8) + 10
    found = Linear(penalty=0.1).find(outputs, labels, 3)
    scaled = (outputs - outputs.mean(0)) / outputs.std(0, correction=0)
    peer = LogisticRegression(C=1 / (0.1 * 60), max_iter=1000, tol=1e-8).fit(scaled.numpy(), labels.numpy())
    theirs = torch.from_numpy(peer.predict_proba(scaled.numpy())).float()
    assert map_outputs(outputs, found).softmax(1).allclose(theirs, atol=1e-3)


def test_linear_accepts_constant_outputs_and_missing_classes() -> None:
    outputs = torch.tensor([[1.0, 7.0], [2.0, 7.0]])
    found = Linear().find(outputs, torch.tensor([0, 2]), 3)
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert map_outputs(outputs, found).argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize("kind", [Frequency, Iterative, ManyToOne, Random, Similarity])
def test_one_to_one_mappings_refuse_more_targets_than_sources(kind: type) -> None:
    with pytest.raises(InputError, match="needs 3 source classes of its own, but the model has 2"):
        kind().find(torch.zeros(3, 2), torch.arange(3), 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bayesian(smoothing=0.0),
        lambda: BayesianPlus(top_share=0.0),
        lambda: BayesianPlus(smoothing=float("nan")),
        lambda: Random(per_class=0),
        lambda: Iterative(temperature=0.0),
        lambda: Similarity(temperature=float("inf")),
        lambda: ManyToOne(temperature=-1.0),
        lambda: ManyToOne(groups=((0,), ())),
        lambda: ManyToOne(groups=((0,), (1,)), weights=((1.0,), (0.0,))),
        lambda: Linear(penalty=0.0),
    ],
)
def test_settings_that_cannot_work_are_refused(make: object) -> None:
    with pytest.raises(InputError, match="at least|above 0"):
        make()  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(LABELS)), classes=st.integers(2, 6))
def test_every_mapping_gives_finite_weights_of_the_right_shape(data: st.DataObject, kind: str, classes: int) -> None:
    n, sources = data.draw(st.integers(1, 8)), data.draw(st.integers(classes, 9))
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    values = st.floats(-50, 50, width=32)
    outputs = torch.tensor(data.draw(st.lists(values, min_size=n * sources, max_size=n * sources))).view(n, sources)
    found = LABELS[kind]().find(outputs, labels, classes)
    assert found["matrix"].shape == (sources, classes)
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    assert ("bias" in found) == LABELS[kind].learns
    if not LABELS[kind].learns:
        assert found["matrix"].sum(0).allclose(torch.ones(classes), atol=1e-5)
        assert bool((found["matrix"] >= 0).all())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=20))
def test_frequency_never_gives_one_source_to_two_targets(pairs: list[tuple[int, int]]) -> None:
    sources, labels = torch.tensor(pairs).T
    matrix = Frequency().find(predicting(*sources.tolist(), of=5), labels, 3)["matrix"]
    assert int(matrix.sum(1).max()) == 1
    most = max(set(pairs), key=lambda pair: (pairs.count(pair), -pair[0], -pair[1]))
    assert matrix[most] == 1


def test_outputs_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 3\) but this label mapping takes \[n, 4\]"):
        map_outputs(torch.zeros(1, 3), {"matrix": torch.zeros(4, 2)})


def test_strongest_sources_lists_the_heaviest_first() -> None:
    matrix = torch.tensor([[0.25, 0.0], [0.75, 0.5], [0.0, 0.5]])
    assert strongest_sources(matrix, count=2)[0] == [(1, 0.75), (0, 0.25)]
    assert len(strongest_sources(matrix, count=9)[1]) == 3
