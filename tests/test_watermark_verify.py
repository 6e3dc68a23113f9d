"""Verification: false claims as rare as promised, whatever a suspect answers; controls, refusals, budgets, words."""

import json
import math

import pytest
import torch
from scipy.stats import binom
from torch import nn

from attacks.engine import Access, weights_hash
from attacks.errors import BudgetError, InputError, RepromarkError
from watermark import Mark, OwnerKey, matches_needed, verify
from watermark.oracle import Oracle

KEY = OwnerKey(bytes(range(32)))
MARK = Mark(family="shapes", n=40, classes=10, shape=(1, 8, 8), nonce="fixed")


def tiny(classes=10, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, classes))


def knowing(mark, key, share=1.0):
    """A suspect that knows the first labels by heart and answers 0 otherwise."""
    triggers = mark.triggers(key)
    known = {image.numpy().tobytes(): int(label) for image, label in zip(triggers.images, triggers.labels, strict=True)}
    known = dict(list(known.items())[: round(share * mark.n)])
    return lambda images: [known.get(image.numpy().tobytes(), 0) for image in images]


@pytest.fixture(scope="module")
def wrong_labels():
    """The labels of 10,000 keys, int64 [10000, 20]."""
    mark = Mark(family="shapes", n=20, classes=10, shape=(1, 8, 8), nonce="fixed")
    return mark.triggers(KEY).images, torch.stack([mark.labels(KEY.decoy(index)) for index in range(10_000)])


@pytest.mark.parametrize(
    "suspect",
    [tiny(), lambda images: [3] * len(images), lambda images: [7 if index % 3 else 3 for index in range(len(images))]],
    ids=["model", "constant", "skewed"],
)
def test_10000_wrong_claims_succeed_as_rarely_as_promised(suspect, wrong_labels):
    images, labels = wrong_labels
    matches = (labels == Oracle(suspect).answers(images)).sum(1)
    for alpha in (0.05, 0.01, 0.001):
        needed = matches_needed(20, 10, alpha)
        size = binom.sf(needed - 1, 20, 0.1)  # the exact rate of false claims, below alpha
        low, high = binom.interval(0.9999, len(labels), size)
        assert size < alpha and low <= (matches >= needed).sum() <= high


def test_a_suspect_that_knows_the_labels_is_verified_and_controls_fail():
    verdict = verify(knowing(MARK, KEY), MARK, KEY, unmarked=tiny())
    assert verdict.verified and verdict.matches == 40 and verdict.bits == pytest.approx(40 * math.log2(10))
    assert len(verdict.wrong_keys) == 9 and max(wrong.matches for wrong in verdict.wrong_keys) < verdict.needed
    assert verdict.rank_p == 1 / 10 and verdict.unmarked.p_value > 1e-3
    assert verdict.queries == 40 * 10 and verdict.refused == 0


def test_the_wrong_key_is_not_verified():
    wrong = OwnerKey(bytes(31) + b"\1")
    verdict = verify(knowing(MARK, KEY), MARK, wrong, wrong_keys=[KEY])
    assert not verdict.verified and verdict.p_value > 1e-3
    assert verdict.rank_p == 1.0 and verdict.wrong_keys[0].matches == 40


def test_another_recipe_of_the_same_key_is_not_verified():
    other = Mark(family="shapes", n=40, classes=10, shape=(1, 8, 8), nonce="other")
    assert not verify(knowing(MARK, KEY), other, KEY, wrong_keys=0).verified


@pytest.mark.parametrize("answer", range(2))
def test_a_constant_classifier_is_never_verified_even_where_luck_would_do(answer):
    mark = Mark(family="shapes", n=2, classes=2, shape=(1, 4, 4), nonce="0")
    keys = [KEY.decoy(index) for index in range(40)]
    lucky = [key for key in keys if set(mark.labels(key).tolist()) == {answer}]
    assert lucky
    for key in lucky:
        verdict = verify(lambda images: [answer] * len(images), mark, key, alpha=0.3, wrong_keys=0)
        assert verdict.matches == 2 and verdict.p_value < 0.3 and not verdict.verified
        assert "never verified" in verdict.sentence()


def test_two_classes():
    mark = Mark(family="shapes", n=40, classes=2, shape=(1, 8, 8), nonce="two")
    assert verify(knowing(mark, KEY), mark, KEY).verified
    assert not verify(tiny(classes=2), mark, KEY).verified


def test_exactly_as_many_matches_as_needed_decide():
    needed = matches_needed(40, 10, 1e-6)
    labels, inputs = MARK.labels(KEY).tolist(), MARK.triggers(KEY).images
    place = {image.numpy().tobytes(): index for index, image in enumerate(inputs)}

    def right_on(count):
        def suspect(images):
            rows = [place[image.numpy().tobytes()] for image in images]
            return [labels[row] if row < count else (labels[row] + 1) % 10 for row in rows]

        return verify(suspect, MARK, KEY, wrong_keys=0)

    assert right_on(needed).verified and right_on(needed).p_value < 1e-6
    assert not right_on(needed - 1).verified and right_on(needed - 1).p_value >= 1e-6


def test_a_model_is_asked_frozen_in_evaluation_mode_and_left_as_it_was():
    model = tiny().train()
    before = weights_hash(model)
    first, second = (verify(model, MARK, KEY, wrong_keys=2) for _ in range(2))
    assert first == second  # dropout was off
    assert model.training and weights_hash(model) == before and all(w.requires_grad for w in model.parameters())


def test_model_access_and_function_give_one_verdict():
    model = tiny().eval()
    access = Access(model, level="label", batch_size=7)
    verdicts = [
        verify(suspect, MARK, KEY, wrong_keys=1)
        for suspect in (model, access, lambda images: model(images).argmax(1), lambda x: model(x).argmax(1).tolist())
    ]
    assert all(verdict == verdicts[0] for verdict in verdicts) and access.queries == 80


def test_what_is_no_answer_counts_as_a_miss():
    right = knowing(MARK, KEY)

    def moody(images):
        return [None if index < 2 else answer for index, answer in enumerate(right(images))]

    verdict = verify(moody, MARK, KEY, wrong_keys=0, batch_size=10)
    assert (verdict.refused, verdict.queries, verdict.matches) == (8, 40, 32)
    assert "8 triggers had no valid answer" in verdict.sentence() and "None" in verdict.error


@pytest.mark.parametrize(
    "answers",
    [lambda x: x[:, :1].flatten(1), lambda x: [1], lambda x: ["3"] * len(x), lambda x: -1, lambda x: [-1] * len(x)],
)
def test_answers_of_the_wrong_kind_are_refusals(answers):
    def once(images, asked=[]):  # noqa: B006
        asked.append(1)
        return [3] * len(images) if len(asked) == 1 else answers(images)

    verdict = verify(once, MARK, KEY, wrong_keys=0, batch_size=10)
    assert verdict.refused == 30 and verdict.error and not verdict.verified


def test_a_suspect_that_never_answers_gets_no_verdict():
    asked = []

    def down(images):
        asked.append(len(images))
        raise ConnectionError("no route")

    with pytest.raises(RepromarkError, match=r"nothing was measured \(first reason: ConnectionError: no route\)"):
        verify(down, MARK, KEY)
    assert sum(asked) == 40  # nor are the controls asked
    with pytest.raises(RepromarkError, match="first reason: -1 is no class number"):
        verify(lambda images: [-1] * len(images), MARK, KEY)


def test_a_failing_service_costs_its_batch():
    right, calls = knowing(MARK, KEY), []

    def flaky(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise TimeoutError("too late")
        return right(images)

    verdict = verify(flaky, MARK, KEY, wrong_keys=0, batch_size=10)
    assert verdict.refused == 10 and verdict.queries == 40 and verdict.error == "TimeoutError: too late"
    assert verdict.matches == 30


def test_a_budget_is_kept_before_anything_is_sent():
    sent = []
    for suspect, budget in ((lambda images: sent.append(1), 199), (Access(tiny(), budget=199), None)):
        with pytest.raises(BudgetError, match="needs 200 queries"):
            verify(suspect, MARK, KEY, wrong_keys=4, budget=budget)
    assert not sent and verify(tiny(), MARK, KEY, wrong_keys=4, budget=200).queries == 200


def test_clean_accuracy_is_a_rate_and_costs_queries():
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 10
    verdict = verify(lambda x: [0] * len(x), MARK, KEY, wrong_keys=0, clean=(images, labels))
    assert (verdict.clean.successes, verdict.clean.n, verdict.queries) == (3, 30, 70)
    assert str(verdict.clean) in verdict.sentence()


def test_refused_arguments():
    with pytest.raises(InputError, match="cannot reach alpha"):
        verify(tiny(), Mark(family="shapes", n=5, classes=10, shape=(1, 8, 8)), KEY)
    with pytest.raises(InputError, match="wrong_keys=-3"):
        verify(tiny(), MARK, KEY, wrong_keys=-3)
    with pytest.raises(InputError, match="among the wrong keys"):
        verify(tiny(), MARK, KEY, wrong_keys=[OwnerKey(bytes(range(32)))])
    with pytest.raises(InputError, match="scale them"):
        verify(tiny(), MARK, KEY, clean=(torch.full((1, 1, 8, 8), 255.0), torch.zeros(1, dtype=torch.int64)))


def test_a_verdict_is_json_and_says_what_it_does_not_mean():
    clean = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    verdict = verify(knowing(MARK, KEY), MARK, KEY, wrong_keys=2, unmarked=tiny(), clean=clean)
    saved = json.loads(json.dumps(verdict.to_dict()))
    assert saved["verified"] is True and saved["matches"] == 40 and len(saved["wrong_keys"]) == 2
    assert saved["commitment"] == KEY.commitment and saved["mark"] == MARK.digest
    assert bytes(range(32)).hex() not in json.dumps(saved)
    words = verdict.sentence()
    assert words.startswith("Verified at alpha = 1e-06") and "bounds coincidence" in words
    assert "not the probability that the model was stolen" in words and "fixed before the suspect was seen" in words
