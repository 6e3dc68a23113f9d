import torch

from reprog import Frequency, Similarity, map_outputs


def test_similarity_matches_the_matrix_worked_out_by_hand() -> None:
    # Class means (4, 2, 1) of two samples, (1, 5, 0) and (1, 2, 5); their mean is (2, 3, 2). Seen from there they are
    # (2, -1, -1) / sqrt 6, (-1, 2, -2) / 3 and (-1, -1, 3) / sqrt 11: 2-2 is paired at .90, then 0-0 at .82, then 1-1.
    outputs = torch.tensor([[3.0, 3.0, 0.0], [5.0, 1.0, 2.0], [1.0, 5.0, 0.0], [1.0, 2.0, 5.0]])
    labels = torch.tensor([0, 0, 1, 2])
    assert Similarity().find(outputs, labels, 3)["matrix"].equal(torch.eye(3))
    # Of two classes, (4, 2, 1) and (1, 5, 0), each is the other's opposite: (3, -3, 1) and (-3, 3, -1) over sqrt 19.
    assert Similarity().find(outputs[:3], labels[:3], 2)["matrix"].tolist() == [[1, 0], [0, 1], [0, 0]]


def test_the_most_similar_pair_of_all_comes_first() -> None:
    # The means' mean is 0, their directions (.6, .8), (1, 0) and (-.9, -.4): class 1 takes source 0 before class 0 has
    # its .8 of source 1, and class 2, below 0 at both, gets the first source that says nothing.
    means = torch.tensor([[3.0, 4.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0], [-8.0, -4.0, 0.0, 0.0]])
    assert Similarity().find(means, torch.arange(3), 3)["matrix"].argmax(0).tolist() == [1, 0, 2]


def test_many_samples_of_a_class_do_not_move_the_centre() -> None:
    outputs, labels = torch.randn(12, 7), torch.arange(12) % 3
    often = torch.cat([outputs, *[outputs[labels == 1]] * 9]), torch.cat([labels, *[labels[labels == 1]] * 9])
    assert Similarity().find(*often, 3)["matrix"].equal(Similarity().find(outputs, labels, 3)["matrix"])


def test_similarity_sees_what_predictions_hide() -> None:
    # The model always answers source 0; sources 1 and 2 still tell the classes apart, the other way round.
    labels = torch.arange(20) % 2
    outputs = torch.zeros(20, 4)
    outputs[:, 0] = 9
    outputs[torch.arange(20), 2 - labels] = 3
    found = Similarity().find(outputs, labels, 2)
    assert found["matrix"].argmax(0).tolist() == [2, 1]
    assert map_outputs(outputs, found).argmax(1).equal(labels)
    assert Frequency().find(outputs, labels, 2)["matrix"].argmax(0).tolist() == [0, 1]


def test_a_single_class_alone_says_nothing_and_gets_the_lowest_sources() -> None:
    matrix = Similarity().find(torch.randn(3, 4), torch.tensor([1, 1, 1]), 2)["matrix"]
    assert matrix.argmax(0).tolist() == [1, 0]
