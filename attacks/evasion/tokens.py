"""Token substitution: the model's own gradient says which words to exchange, forward passes decide.

Ebrahimi et al., "HotFlip: white-box adversarial examples for text classification", ACL 2018, whose first-order estimate
of what an exchange does to the loss ranks them all. Here the most promising ones are tried, and the best is made.
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import normalize

from attacks.errors import InputError

from ..engine import (
    Ask,
    Loss,
    Method,
    Objective,
    RunOptions,
    away_or_towards,
    check_counts,
    cross_entropy,
    run,
)
from ..engine.texts import Piece, Pieces, Spelled, Substitution, TextResult, check_texts, radius
from ..models.text import TextModel, Token

ENTRIES = 2**24
"""The most estimates held at once, which bounds the memory for large vocabularies."""


class Exchanges:
    """All exchanges of one word for another, and what the gradient promises of each.

    Args:
        model: whose vocabulary and vectors these are.
        pieces: of the texts; the first ones after the empty piece are the words on offer.
        min_similarity: the least cosine between the vectors of a word and of what stands in for it.
    """

    def __init__(self, model: TextModel, pieces: Pieces, min_similarity: float) -> None:
        self.model, self.min_similarity = model, min_similarity
        self.offered = model.words.tokens.to(model.device)
        self._tokens = pieces.tokens.to(model.device)

    def tokens(self, rows: Tensor) -> Tensor:
        """The tokens of texts given as rows of pieces, int64, shape ``[n, length]``; -1 after the end of a text."""
        return self._tokens[rows[:, 1::2].long()]

    def trials(
        self, x: Tensor, p: Tensor, slope: Tensor, open_places: Tensor, count: int, skip: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The texts after each of the most promising exchanges.

        Args:
            x: the clean texts, shape ``[n, pieces]``.
            p: the present ones.
            slope: the loss's gradient in their tokens' vectors, shape ``[n, length, size]``.
            open_places: the tokens that may be exchanged, bool, shape ``[n, length]``.
            count: exchanges for each text at most.
            skip: how many of the most promising ones to leave out, int64, shape ``[n]``.

        Returns:
            The texts, shape ``[n, m, pieces]``, ``m`` at most ``count``, where some have fewer exchanges filled up with
            the text as it is; and how many exchanges there are of each, shape ``[n]``.
        """
        made, found = p[:, None].repeat(1, count, 1), torch.zeros_like(skip)
        some = max(1, ENTRIES // (slope.shape[1] * len(self.offered)))
        for rows in open_places.any(1).nonzero().squeeze(1).split(some):
            promise = self._promise(x[rows], p[rows], slope[rows])
            promise = promise.masked_fill(~open_places[rows, :, None], torch.inf).flatten(1)
            most = min(count + int(skip[rows].max()), promise.shape[1])
            ranked = promise.topk(most, dim=1, largest=False)
            turn = skip[rows, None] + torch.arange(count, device=p.device)
            index = ranked.indices.gather(1, turn.clamp_max(most - 1))
            real = (turn < most) & (ranked.values.gather(1, turn.clamp_max(most - 1)) < torch.inf)
            place = 2 * index.div(len(self.offered), rounding_mode="floor") + 1
            piece = torch.where(real, index % len(self.offered) + 1, p[rows].gather(1, place))
            made[rows] = made[rows].scatter(2, place[:, :, None], piece[:, :, None])
            found[rows] = real.sum(1)
        return made[:, : max(1, int(found.max()))], found

    def _promise(self, x: Tensor, p: Tensor, slope: Tensor) -> Tensor:
        """By how much each exchange changes the loss, to first order, shape ``[n, length, words]``."""
        clean, present, vectors = self.tokens(x).clamp_min(0), self.tokens(p).clamp_min(0), self.model.embedding
        offers = vectors[self.offered]
        promise = slope @ offers.T - (slope * vectors[present]).sum(2, keepdim=True)
        refused = self.offered == clean[:, :, None]
        if self.min_similarity > -1:
            alike = normalize(vectors[clean], dim=2) @ normalize(offers, dim=1).T
            refused |= alike < self.min_similarity
        return promise.masked_fill(refused, torch.inf)


def greedy_substitution(
    x: Tensor,
    perturbation: Substitution,
    *,
    generator: torch.Generator,
    epsilon: float,
    objective: Objective,
    exchanges: Exchanges,
    steps: int,
    candidates: int,
) -> Method[None]:
    """The method behind :func:`token_substitution`: at every step the best of the most promising exchanges."""
    p, free, allowed = perturbation.start(x), perturbation.places(x)[:, 1::2], perturbation.allowed(x, epsilon)
    answer = yield Ask(p, objective)
    loss, going = answer.loss, free.any(1) & (allowed > 0) & ~answer.fooled
    skip = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for _ in range(steps):
        if not bool(going.any()):
            return
        between = exchanges.model.vectors(exchanges.tokens(p))
        answer = yield Ask(between, objective, gradient=True, probe=True, wanted=going)
        changed = (p != x)[:, 1::2]
        open_places = going[:, None] & free & (changed | (changed.sum(1) < allowed)[:, None])
        trials, found = exchanges.trials(x, p, answer.slope()[:, :, 1:], open_places, candidates, skip)
        going = going & (found > 0)
        answer = yield Ask(trials, objective, several=True, wanted=going)
        fooled = answer.fooled.any(1)
        best = answer.loss.masked_fill(fooled[:, None] & ~answer.fooled, torch.inf).min(1)
        better = going & (fooled | (best.values < loss))
        skip = torch.where(better, 0, skip + candidates)  # what did not help now will not help the next time either
        p = torch.where(better[:, None], trials[torch.arange(len(p), device=p.device), best.indices], p)
        loss = torch.where(better, best.values, loss)
        yield Ask(p, objective, wanted=better)
        going = going & ~fooled


def token_substitution(
    model: TextModel,
    texts: Sequence[str],
    labels: Tensor,
    *,
    max_changes: int | None = None,
    max_share: float | None = None,
    min_similarity: float = -1.0,
    steps: int = 20,
    candidates: int = 64,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> TextResult:
    """Attack each text by exchanging words that are one token for other such words, led by the gradient.

    Special tokens and parts of words are neither touched nor put in, punctuation and everything else stays as it is
    written, and whatever the model is asked about is a real text: written out and read by the tokenizer.

    Args:
        model: made by :func:`~attacks.models.load_text_model`.
        texts: ``n`` texts.
        labels: their classes, int64, shape ``[n]``.
        max_changes: the most words that may change in each text. Give this or ``max_share``.
        max_share: the same as a share of the text's words that can be exchanged, rounded down; the result's distances
            are such shares then.
        min_similarity: the least cosine between the model's own vectors of a word and of what stands in for it, in
            [-1, 1]. With -1 a word may become its opposite, which fools no reader.
        steps: exchanges to make at most, at least 1; a word may be exchanged again.
        candidates: exchanges to try in each step, a forward pass each, at least 1.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`: targets, stop, budget, batch_size, seed, generator, progress.

    Raises:
        InputError: when texts, labels or settings cannot be used as they are, or the vocabulary has no whole words.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> network = BertForSequenceClassification(BertConfig(vocab_size=9, **sizes))
        >>> tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
        >>> model = TextModel(network, tokenizer, name="tiny", source="here")
        >>> texts = ["A good film!", "bad"]
        >>> result = token_substitution(model, texts, model(texts).argmax(1), max_changes=1)
        >>> all(old.lower() in model.words.spellings for pairs in result.substitutions for old, new in pairs)
        True
    """
    check_texts(texts, tuple(options))
    check_counts(steps=steps, candidates=candidates)
    if not isinstance(min_similarity, int | float) or not -1 <= min_similarity <= 1:
        raise InputError(f"min_similarity={min_similarity!r} cannot be used: it must be a cosine, from -1 to 1.")
    if not isinstance(model, TextModel):
        raise InputError(
            f"The model is a {type(model).__name__} but must be a TextModel, whose gradient reaches its tokens: load "
            "it with load_text_model, or use word_substitution."
        )
    if not len(model.words):
        raise InputError(f"The vocabulary of {model.name} has no whole words of one token: use word_substitution.")
    if options.get("estimator") is not None:
        raise InputError(
            "estimator= has no steps between words to look at: use word_substitution, which asks by query."
        )
    epsilon, relative = radius(max_changes, max_share)
    pieces, rows = cut(model, texts)
    method = partial(
        greedy_substitution,
        objective=away_or_towards(loss, options.get("targets")),
        exchanges=Exchanges(model, pieces, min_similarity),
        steps=steps,
        candidates=candidates,
    )
    options["bounds"] = (0, len(pieces) - 1)
    perturbation = Substitution(pieces.free, relative)
    spelled = Spelled(model, pieces)
    result = run(method, spelled, rows, labels, norm="l0", epsilon=epsilon, perturbation=perturbation, **options)
    return TextResult.of(result, pieces, rows, relative=relative)


def cut(model: TextModel, texts: Sequence[str]) -> tuple[Pieces, Tensor]:
    """Texts cut at their tokens: token ``t`` is the piece at ``2 * t + 1``, and what stands between two is another.

    The first pieces after the empty one are ``model.words`` in their order.
    """
    pieces, words = Pieces(), set(model.words.tokens.tolist())
    for token, spelling in zip(model.words.tokens.tolist(), model.words.spellings, strict=True):
        pieces.number(Piece(spelling, True, token))
    return pieces, pieces.rows(
        [_cut(text, tokens, words) for text, tokens in zip(texts, model.tokens(texts), strict=True)]
    )


def _cut(text: str, tokens: Sequence[Token], words: set[int]) -> list[Piece]:
    """One text; a special token is a piece without letters."""
    parts, last = [], 0
    for token in tokens:
        start = max(token.start, last) if token.end > last else last
        end = max(token.end, start)
        free = token.whole and token.number in words
        parts += [Piece(text[last:start]), Piece(text[start:end], free, token.number)]
        last = end
    return [*parts, Piece(text[last:])]
