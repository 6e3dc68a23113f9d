"""What each level of access shows, and the hard budget."""

import pytest
import torch
from torch import nn

from attacks.engine import Access, weights_hash
from attacks.engine.access import charge_resent
from attacks.errors import BudgetError, InputError
from attacks.evasion import pgd

LEVELS = ["gradients", "scores", "top_k", "label"]


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.sent = 0

    def forward(self, x):
        self.sent += len(x)
        return x @ self.weight


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_the_models_answer_and_counts_each_sample(level):
    model, x = Counting(), torch.rand(7, 6)
    access = Access(model, level=level, batch_size=3)
    assert torch.equal(access(x).argmax(1), (x @ model.weight).argmax(1))
    assert torch.equal(access.labels(x), (x @ model.weight).argmax(1))
    assert access.queries == model.sent == 14


def test_levels_show_less_and_less():
    model, x = Counting(), torch.rand(5, 6)
    logits = (x @ model.weight).detach()
    assert torch.equal(Access(model, level="gradients")(x).detach(), logits)
    assert Access(model, level="gradients")(x).requires_grad
    assert not Access(model, level="scores")(x).requires_grad
    best = Access(model, level="top_k", top_k=2)(x)
    assert torch.allclose(best.sum(1), torch.ones(5))
    assert torch.allclose(best.topk(2).values, logits.softmax(1).topk(2).values)
    assert all(len(row.unique()) == 3 for row in best)  # two shown, the other two alike
    assert torch.equal(Access(model, level="label")(x).sum(1), torch.ones(5))
    assert torch.allclose(Access(model, level="top_k", top_k=9)(x), logits.softmax(1))


def test_only_the_first_level_lets_a_white_box_attack_through():
    model, x, labels = Counting(), torch.rand(5, 6), torch.zeros(5, dtype=torch.int64)
    assert pgd(Access(model), x, labels, epsilon=0.1, steps=2).backward_passes.sum() > 0
    for level in LEVELS[1:]:
        with pytest.raises(InputError, match="outputs carry none"):
            pgd(Access(model, level=level), x, labels, epsilon=0.1, steps=2)


def test_nothing_is_sent_that_the_budget_does_not_cover():
    model = Counting()
    access = Access(model, level="label", budget=10)
    access(torch.rand(8, 6))
    with pytest.raises(BudgetError, match="3 more queries would make 11, but the budget is 10: nothing was sent"):
        access(torch.rand(3, 6))
    assert model.sent == access.queries == 8
    access(torch.rand(2, 6))
    assert model.sent == access.queries == 10


@pytest.mark.parametrize(
    "wrong",
    [{"level": "none"}, {"top_k": 0}, {"batch_size": 0}, {"budget": -1}, {"price": -1.0}, {"price": float("nan")},
     {"cache": True}, {"trace": "never-made"}, {"eight_bit": True}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        Access(Counting(), **wrong)


def test_answering_moves_no_statistics_and_leaves_the_modes():
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).train()
    before = weights_hash(model)
    access, x = Access(model, level="scores"), torch.rand(9, 6)
    assert torch.equal(access(x), access(x)) and weights_hash(model) == before
    assert model.training and model[0].training


def test_what_was_seen_is_remembered_and_neither_sent_nor_charged_again():
    model, x = Counting(), torch.rand(5, 6)
    access = Access(model, level="scores", budget=7, price=0.25, cache=True, batch_size=2)
    both = access(torch.cat([x, x[:2]]))
    assert (access.queries, access.hits, model.sent, access.cost) == (5, 2, 5, 1.25)
    assert torch.equal(both[:2], both[5:])
    assert torch.equal(both[:4], torch.cat([part @ model.weight for part in x[:4].split(2)]).detach())
    assert torch.equal(access(x.flip(0)), both[:5].flip(0)) and access.queries == 5
    with pytest.raises(BudgetError, match="3 more queries would make 8"):
        access(torch.cat([torch.rand(3, 6), x]))
    access(torch.cat([torch.rand(2, 6), x]))
    assert access.queries == model.sent == 7
    assert not torch.equal(access(x[:1]), access(x[1:2]))


@pytest.mark.parametrize("level", LEVELS[1:])
def test_what_is_remembered_is_what_was_shown(level, tmp_path):
    model, x = Counting(), torch.rand(7, 6)
    fresh = Access(model, level=level, top_k=2)(x)
    for place in (None, tmp_path / "made" / "trace"):
        access = Access(model, level=level, top_k=2, cache=True, trace=place)
        assert torch.equal(access(x), fresh) and torch.equal(access(x), fresh)
        assert torch.equal(access.labels(x), fresh.argmax(1))
    again = Access(model, level=level, top_k=2, trace=place, budget=7)
    assert torch.equal(again(x), fresh) and again.queries == again.hits == 7


def test_a_label_beyond_what_half_precision_counts_is_kept_exactly():
    logits = torch.zeros(1, 3000, dtype=torch.float16)
    logits[0, 2999] = 1
    assert Access(nn.Identity(), level="label").labels(logits).item() == 2999
    assert Access(nn.Identity(), level="top_k", cache=True)(logits).argmax() == 2999


def test_eight_bit_inputs_are_rounded_before_they_are_sent_and_equal_then_counts_as_equal():
    access = Access(nn.Identity(), level="scores", cache=True, eight_bit=True)
    shown = access(torch.tensor([[0.5, 0.1], [0.501, 0.1], [0.51, 0.1]]))
    assert access.queries == 2 and torch.equal(shown[0], shown[1])
    assert torch.equal(shown * 255, (shown * 255).round())


def test_the_type_and_shape_of_an_input_count():
    access = Access(nn.Flatten(), level="scores", cache=True)
    for x in (torch.zeros(1, 2, 3), torch.zeros(1, 3, 2), torch.zeros(1, 3, 2, dtype=torch.float64)):
        access(x)
    assert access.queries == 3


class Dying(Counting):
    """Ends its process, as it were, when it has answered so many samples."""

    def __init__(self, weight: torch.Tensor, last: int) -> None:
        super().__init__()
        self.weight.data, self.last = weight, last

    def forward(self, x):
        if self.sent + len(x) > self.last:
            raise KeyboardInterrupt
        return super().forward(x)


def search(access: Access, x: torch.Tensor) -> torch.Tensor:
    """A search whose every step depends on the answers before."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(12):
        shift = torch.randn(x.shape, generator=generator)
        x = torch.where((access(x + shift).amax(1) > access(x).amax(1))[:, None], x + shift, x)
    return x


@pytest.mark.parametrize("last", [0, 3, 6, 20, 47, 60])
def test_a_run_that_died_goes_on_from_its_trace_with_the_same_bits(last, tmp_path):
    weight, x = torch.randn(6, 4), torch.rand(5, 6)
    whole = Access(Dying(weight, 1000), level="scores", batch_size=3, cache=True)
    expected = search(whole, x)
    dead = Dying(weight, last)
    with pytest.raises(KeyboardInterrupt):
        search(Access(dead, level="scores", batch_size=3, trace=tmp_path / "trace"), x)
    model = Dying(weight, 1000)
    access = Access(model, level="scores", batch_size=3, trace=tmp_path / "trace")
    lost = access.queries - dead.sent
    assert 0 < lost <= 3  # sent, but not answered
    assert torch.equal(search(access, x), expected)
    assert dead.sent + model.sent == whole.queries == access.queries - lost


def test_a_trace_that_was_cut_anywhere_is_good_for_what_comes_before_the_cut(tmp_path):
    model, x, place = Counting(), torch.rand(4, 6), tmp_path / "trace"
    expected = Access(model, level="scores", batch_size=1, trace=place)(x)
    whole = place.read_bytes()
    known = []
    for cut in range(len(whole)):
        place.write_bytes(whole[:cut])
        access = Access(model, level="scores", batch_size=1, trace=place)
        before = access.queries
        assert torch.equal(access(x), expected)
        known.append(access.hits)
        assert access.queries - before == 4 - access.hits
        assert Access(model, level="scores", batch_size=1, trace=place).queries == access.queries
    assert known == sorted(known) and set(known) == {0, 1, 2, 3}


def test_the_budget_holds_over_several_lives(tmp_path):
    model = Counting()
    for left in (10, 6, 2):
        access = Access(model, level="label", budget=10, trace=tmp_path / "trace", batch_size=2, price=2.0)
        assert access.queries == 10 - left and access.cost == 2 * (10 - left)
        if left > 2:
            access(torch.rand(4, 6))
    with pytest.raises(BudgetError, match="4 more queries would make 12"):
        access(torch.rand(4, 6))
    assert model.sent == 8


@pytest.mark.parametrize("change", ["weights", "level", "top_k", "eight_bit"])
def test_a_trace_of_something_else_is_refused(change, tmp_path):
    model, place = Counting(), tmp_path / "trace"
    settings = {"level": "top_k", "top_k": 2, "eight_bit": False}
    Access(model, trace=place, **settings)(torch.rand(1, 6))
    other = {"level": "label"} if change == "level" else {"top_k": 3} if change == "top_k" else {"eight_bit": True}
    if change == "weights":
        model.weight.data += 1
    with pytest.raises(InputError, match=f"belongs to another run .*{change}"):
        Access(model, trace=place, **(settings if change == "weights" else settings | other))


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[]", b"{}", b'{"inputs": ["a"], "answers": "AAAA", "classes": 4}', b'{"inputs": [], "answers": ""}',
     b'{"inputs": ["a"], "answers": "!", "classes": 4}', b'{"sent": "x"}', b"[" * 100000],
)  # fmt: skip
def test_a_damaged_line_is_named(line, tmp_path):
    model, place = Counting(), tmp_path / "trace"
    Access(model, level="label", trace=place)(torch.rand(1, 6))
    place.write_bytes(place.read_bytes() + line + b"\n" + b'{"sent":1}\n')
    with pytest.raises(InputError, match="Line 4 of the trace .* is damaged"):
        Access(model, level="label", trace=place)


@pytest.mark.parametrize("content", [b"my thesis", b'{"a": 1}\n', b"\xff\n\n", b'{"trace" '])
def test_a_file_that_is_no_trace_is_left_alone(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match="no trace was written to"):
        Access(Counting(), level="label", trace=tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    with pytest.raises(InputError, match="cannot be used"):
        Access(Counting(), level="label", trace=tmp_path)


class Resending(Counting):
    """A service whose first answers are lost."""

    def forward(self, x):
        super().forward(x)
        charge_resent(len(x))
        return super().forward(x)


def test_what_has_to_be_sent_again_is_charged_and_never_beyond_the_budget(tmp_path):
    model = Resending()
    inner = Access(model, level="scores", budget=9, trace=tmp_path / "trace", batch_size=2)
    outer = Access(inner, level="label")
    outer(torch.rand(4, 6))
    assert model.sent == inner.queries == outer.queries == 8
    with pytest.raises(BudgetError, match="1 more queries would make 10"):
        outer(torch.rand(1, 6))
    assert model.sent == inner.queries == outer.queries == 9
    assert Access(model, level="scores", trace=tmp_path / "trace").queries == 9
    with pytest.raises(BudgetError):
        outer(torch.rand(1, 6))
    charge_resent(3)  # nobody asks
    assert inner.queries == 9


def test_one_batch_is_one_request_of_the_endpoint_inside():
    model = Counting()
    assert Access(nn.Sequential(model)).batch_size == 256
    model.request_size = 3
    assert Access(nn.Sequential(model)).batch_size == 3
    assert Access(nn.Sequential(model), batch_size=5).batch_size == 5
