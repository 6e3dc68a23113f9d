"""Word substitution in the dark: a text classifier is asked for its scores, or for no more than its answer.

With scores the search is that of Jin et al., "Is BERT really robust? A strong baseline for natural language attack on
text classification and entailment", AAAI 2020: words whose deletion hurts most go first. With answers alone it is the
start of Maheshwary et al., "Generating natural language attacks in a hard label black box setting", AAAI 2021: random
exchanges until the model errs, then back as far as it goes on erring.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Unpack

import torch
from torch import Tensor
from torch.nn.functional import normalize

from attacks.errors import InputError

from ..engine import (
    Access,
    Ask,
    Loss,
    Method,
    Objective,
    RunOptions,
    away_or_towards,
    check_counts,
    cross_entropy,
    device_of,
    get_norm,
    run,
)
from ..engine.texts import Piece, Pieces, Spelled, Substitution, TextResult, check_texts, radius
from ..models.text import TextModel

Synonyms = Callable[[str], Sequence[str]]
"""``synonyms(word) -> words``: what may stand in for a word, the best first; the word comes in lower case."""

WORD = re.compile(r"([^\W\d_]+(?:['’-][^\W\d_]+)*)")
"""Letters, also joined by apostrophes or hyphens."""


def ranked_substitution(
    x: Tensor,
    perturbation: Substitution,
    *,
    generator: torch.Generator,
    epsilon: float,
    objective: Objective,
    choices: Tensor,
) -> Method[None]:
    """With scores: word by word, the one whose deletion hurts most first, the best of its choices, if it helps at all.

    ``choices[piece]`` are the pieces that may stand in for one, shape ``[pieces, most]``, filled up with zeros.
    """
    p, free, left = perturbation.start(x), perturbation.places(x), perturbation.allowed(x, epsilon)
    answer = yield Ask(p, objective)
    loss, harm = answer.loss, torch.zeros_like(x).masked_fill(~free, torch.inf)
    for place in free.any(0).nonzero().flatten().tolist():
        without, ranked = p.clone(), free[:, place] & (left > 0) & (free.sum(1) > 1)
        without[:, place] = 0
        answer = yield Ask(without, objective, probe=True, wanted=ranked)
        harm[:, place] = torch.where(ranked, answer.loss, harm[:, place])
    order = harm.argsort(dim=1, stable=True)
    for rank in range(int(free.sum(1).max())):
        place, best, lowest = order[:, rank : rank + 1], p, loss
        offers = choices[x.gather(1, place).long()].squeeze(1)
        for offer in offers.split(1, dim=1):
            wanted = (offer > 0).squeeze(1) & (left > 0)
            trial = p.scatter(1, place, offer.to(p.dtype))
            answer = yield Ask(trial, objective, wanted=wanted)
            better = wanted & (answer.loss < lowest)
            best, lowest = torch.where(better[:, None], trial, best), torch.where(better, answer.loss, lowest)
        left = left - (lowest < loss).to(left.dtype)
        p, loss = best, lowest


def random_substitution(
    x: Tensor, perturbation: Substitution, *, generator: torch.Generator, epsilon: float, choices: Tensor, tries: int
) -> Method[None]:
    """With answers alone: exchange ever more words at random until the model errs, then put back what it allows."""
    free, counts = perturbation.places(x), (choices > 0).sum(1)[x.long()]
    fooled, p = (yield Ask(x)).fooled, x
    for attempt in range(tries):
        draws = torch.rand(2, *x.shape, generator=generator, device=x.device)
        pick = (draws[0] * counts).long().clamp_max(choices.shape[1] - 1)[:, :, None]
        offers = choices[x.long()].gather(2, pick).squeeze(2)
        trial = torch.where(free & (draws[1] < (attempt + 1) / tries), offers.to(x.dtype), x)
        answer = yield Ask(trial, wanted=~fooled)
        p = torch.where((answer.fooled & ~fooled)[:, None], trial, p)
        fooled = fooled | answer.fooled
    turns = torch.rand(x.shape, generator=generator, device=x.device).masked_fill(~free, torch.inf).argsort(dim=1)
    for place in turns[:, : int(free.sum(1).max())].split(1, dim=1):
        trial = p.scatter(1, place, x.gather(1, place))
        wanted = fooled & (trial != p).any(1)
        answer = yield Ask(trial, wanted=wanted)
        p = torch.where((wanted & answer.fooled)[:, None], trial, p)


def word_substitution(
    model: Callable[[list[str]], Any],
    texts: Sequence[str],
    labels: Tensor,
    *,
    max_changes: int | None = None,
    max_share: float | None = None,
    synonyms: Synonyms | None = None,
    level: Literal["scores", "top_k", "label"] = "scores",
    tries: int = 20,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> TextResult:
    """Attack each text by exchanging words for others that the caller allows, seeing nothing but the model's answers.

    Case, punctuation and spacing stay as they are written. Every query is a text; ``result.queries`` counts them, and
    with ``budget`` no text costs more.

    Args:
        model: maps a list of ``n`` texts to logits (or log-probabilities), ``[n, classes]``: a
            :class:`~attacks.models.TextModel`, or any function of yours, around a service, say.
        texts: ``n`` texts.
        labels: their classes, int64, shape ``[n]``.
        max_changes: the most words that may change in each text. Give this or ``max_share``.
        max_share: the same as a share of the text's words that have synonyms, rounded down; the result's distances are
            such shares then.
        synonyms: what may stand in for a word, the best first; :func:`embedding_neighbours` of a TextModel's own words
            unless given.
        level: what is seen of the answers: all scores; the best five; or only the class, for which another search is
            used.
        tries: at the level "label", the random exchanges in search of a first text that fools, at least 1.
        loss: what the attack raises at the labels, or lowers at the targets; not looked at on the level "label".
        **options: the settings of :func:`attacks.run`: targets, stop, restarts, budget, batch_size, seed, generator,
            progress.

    Raises:
        InputError: when texts, labels or settings cannot be used as they are.

    Example:
        >>> def likes(texts):
        ...     return [[0.0, text.lower().count("good") - text.lower().count("bad")] for text in texts]
        >>> table = {"good": ["fine", "decent"], "film": ["movie"]}
        >>> result = word_substitution(
        ...     likes, ["Good film!"], torch.tensor([1]), max_changes=1, synonyms=lambda word: table.get(word, ())
        ... )
        >>> result.texts, result.queries
        (('Fine film!',), tensor([5]))
    """
    check_texts(texts, tuple(options))
    check_counts(tries=tries)
    if level not in ("scores", "top_k", "label"):
        raise InputError(f"level={level!r} is not known: use 'scores', 'top_k' or 'label'.")
    if isinstance(model, Access) or not callable(model):
        raise InputError(
            f"The model is a {type(model).__name__} but must be a function of a list of texts: hand over the model "
            "itself, and say with level= what is seen of its answers."
        )
    epsilon, relative = radius(max_changes, max_share)
    if synonyms is None:
        if not isinstance(model, TextModel):
            raise InputError(
                "There are no words to put in: give synonyms=, a function from a word to others, such as "
                "embedding_neighbours(load_text_model(...))."
            )
        synonyms = embedding_neighbours(model)
    pieces, rows, choices = cut(texts, synonyms)
    shown = Access(Spelled(model, pieces), level=level)
    choices = choices.to(device_of(shown, rows))
    if level == "label":
        method = partial(random_substitution, choices=choices, tries=tries)
    else:
        objective = away_or_towards(loss, options.get("targets"))
        method = partial(ranked_substitution, choices=choices, objective=objective)
    options["bounds"] = (0, len(pieces) - 1)
    perturbation, size = Substitution(pieces.free, relative), get_norm("l0").size
    result = run(
        method,
        shown,
        rows,
        labels,
        norm="l0",
        epsilon=epsilon,
        perturbation=perturbation,
        rank=size if level == "label" else None,
        **options,
    )
    return TextResult.of(result, pieces, rows, relative=relative)


def embedding_neighbours(model: TextModel, *, count: int = 20, min_similarity: float = 0.5) -> Synonyms:
    """Words whose vectors in a model's own vocabulary point in about the same direction.

    Args:
        model: the one under attack, or another.
        count: words for each word at most, at least 1.
        min_similarity: the least cosine between the two vectors, in [-1, 1].

    Returns:
        A function from a word to its neighbours, the nearest first; none for words of several tokens.

    Raises:
        InputError: for settings out of range.

    Example:
        >>> from transformers import BertConfig, BertModel, BertTokenizer
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "fine", "bad"]
        >>> sizes = {"hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2}
        >>> encoder = BertModel(BertConfig(vocab_size=8, **sizes))
        >>> vectors = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]])
        >>> _ = encoder.get_input_embeddings().weight.data[5:].copy_(vectors)
        >>> tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
        >>> embedding_neighbours(TextModel(encoder, tokenizer, name="tiny", source="here"))("good")
        ['fine']
    """
    check_counts(count=count)
    if not isinstance(min_similarity, int | float) or not -1 <= min_similarity <= 1:
        raise InputError(f"min_similarity={min_similarity!r} cannot be used: it must be a cosine, from -1 to 1.")
    words = model.words
    places = {word: place for place, word in enumerate(words.spellings)}
    directions = normalize(model.embedding.detach()[words.tokens.to(model.device)], dim=1)

    def neighbours(word: str) -> list[str]:
        place = places.get(word)
        if place is None:
            return []
        alike = directions @ directions[place]
        alike[place] = -torch.inf
        nearest = alike.topk(min(count, len(words)))
        return [
            words.spellings[near]
            for near, cosine in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
            if cosine >= min_similarity
        ]

    return neighbours


def cut(texts: Sequence[str], synonyms: Synonyms) -> tuple[Pieces, Tensor, Tensor]:
    """Texts cut into words and what stands between, and the pieces that may stand in for each, filled up with zeros."""
    pieces, offers = Pieces(), dict[int, list[int]]()
    found = {word: _spelled_like(word, synonyms) for text in texts for word in WORD.findall(text)}
    rows = pieces.rows([[Piece(part, free=bool(found.get(part))) for part in WORD.split(text)] for text in texts])
    for word, others in found.items():
        if others:
            offers[pieces.number(Piece(word, free=True))] = [pieces.number(Piece(other)) for other in others]
    choices = torch.zeros(len(pieces), max(map(len, offers.values()), default=1), dtype=torch.int64)
    for piece, numbers in offers.items():
        choices[piece, : len(numbers)] = torch.tensor(numbers)
    return pieces, rows, choices


def _spelled_like(word: str, synonyms: Synonyms) -> list[str]:
    """What may stand in for a word, in its case, each once and not the word itself.

    Raises:
        InputError: when the synonyms are no strings.
    """
    others = synonyms(word.lower())
    if isinstance(others, str) or not all(isinstance(other, str) and other.strip() for other in others):
        raise InputError(
            f"synonyms({word.lower()!r}) gave {others!r} but must give a list of strings, empty where there are none."
        )
    if len(word) > 1 and word.isupper():
        others = [other.upper() for other in others]
    elif word[0].isupper():
        others = [other[0].upper() + other[1:] for other in others]
    return [other for other in dict.fromkeys(others) if other.lower() != word.lower()]
