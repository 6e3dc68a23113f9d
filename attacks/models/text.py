"""Text classifiers from the Hugging Face hub or a folder: texts go in, logits come out, gradients reach the tokens."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..engine import device_of
from ..errors import InputError
from .checkpoints import Checkpoint, Kind, class_names

TEXTS = Kind(
    name="a text classifier",
    task="text classification",
    auto="AutoModelForSequenceClassification",
    architectures="MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    reader="AutoTokenizer",
    prepares="tokenizer",
    file="tokenizer.json",
    files="tokenizer*",
)

LONGEST = 512
"""Tokens in a text, where neither tokenizer nor network says how many it takes."""


class Token(NamedTuple):
    """A token of a text.

    Attributes:
        number: in the vocabulary.
        start: of its characters.
        end: of its characters; where it starts, if it has none.
        whole: whether it is a whole word, and no part of one and no special token.
    """

    number: int
    start: int
    end: int
    whole: bool


@dataclass(frozen=True)
class Words:
    """The words that are one token each, wherever they stand between others: they survive being written and read.

    Attributes:
        tokens: their numbers in the vocabulary, ascending, int64, shape ``[words]``.
        spellings: their letters.
    """

    tokens: Tensor
    spellings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.spellings)


class TextModel(nn.Module):
    """A text classifier with its tokenizer; :func:`load_text_model` makes these.

    Args:
        network: a transformers model, or a module that is called with ``input_ids`` and ``attention_mask`` and answers
            with logits ``[n, classes]`` or an object that has them as ``.logits``; its ``get_input_embeddings()`` is
            the layer that looks tokens up.
        tokenizer: a fast one, with a padding token.
        name: for tables and reports.
        source: where it came from.
        class_names: in the order of the logits.
        revision: the exact version of ``source``, where it has one.
        max_length: tokens that the network sees of a text; the tokenizer's or the network's own limit by default.

    Raises:
        InputError: a tokenizer that does not say which characters its tokens stand for, or cannot pad.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> network = BertForSequenceClassification(BertConfig(vocab_size=8, **sizes))
        >>> tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
        >>> model = TextModel(network, tokenizer, name="tiny", source="here")
        >>> model(["A good film!", "good"]).shape, model.words.spellings
        (torch.Size([2, 2]), ('a', 'good', 'film'))
        >>> model.encode(["A good film", "good"])
        tensor([[ 2,  5,  6,  7,  3],
                [ 2,  6,  3, -1, -1]])
    """

    def __init__(
        self,
        network: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        source: str,
        class_names: Sequence[str] | None = None,
        revision: str | None = None,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(f"The tokenizer of {name} does not say where its tokens stand in a text: use a fast one.")
        if tokenizer.pad_token_id is None:
            raise InputError(
                f"The tokenizer of {name} has no padding token: set tokenizer.pad_token and the network's "
                "config.pad_token_id, and save both with save_pretrained."
            )
        self.network, self.tokenizer = network, tokenizer
        self.name, self.source, self.revision = name, source, revision
        self.class_names = None if class_names is None else list(class_names)
        self.max_length = max_length or _longest(tokenizer, getattr(network, "config", None))
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.network)

    @property
    def embedding(self) -> Tensor:
        """The vector of every token, shape ``[vocabulary, size]``."""
        return self._lookup.weight

    @property
    def _lookup(self) -> nn.Embedding:
        return self.network.get_input_embeddings()  # type: ignore[operator]

    @cached_property
    def words(self) -> Words:
        """The words of the vocabulary; found by writing each between two others and reading it again."""
        special = set(self.tokenizer.all_special_ids)
        numbers = [number for number in sorted(self.tokenizer.get_vocab().values()) if number not in special]
        spellings = [text.strip() for text in self.tokenizer.batch_decode([[number] for number in numbers])]
        found = [(number, word) for number, word in zip(numbers, spellings, strict=True) if word.isalpha()]
        before = "a "
        read = self.tokens([f"{before}{word} a" for _, word in found])
        kept = []
        for (number, word), tokens in zip(found, read, strict=True):
            start, end = len(before), len(before) + len(word)
            over = [token for token in tokens if token.end > start and token.start < end]
            if len(over) == 1 and over[0].number == number and over[0].whole:
                kept.append((number, word))
        return Words(torch.tensor([number for number, _ in kept]), tuple(word for _, word in kept))

    def tokens(self, texts: Sequence[str]) -> list[list[Token]]:
        """The tokens that the network sees of each text, special ones included."""
        read = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        return [list(_tokens(encoding, text)) for encoding, text in zip(read.encodings, texts, strict=True)]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The numbers of the texts' tokens, int64, shape ``[n, length]``; -1 after the end of a text."""
        read = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        return read["input_ids"].masked_fill(read["attention_mask"] == 0, -1)

    def vectors(self, tokens: Tensor) -> Tensor:
        """Tokens with the vectors that the network looks up for them: what its gradient can be taken at.

        Args:
            tokens: shape ``[n, length]``, -1 after the end of a text.

        Returns:
            Shape ``[n, length, 1 + size]``: each token's number and its vector, which may be changed.
        """
        tokens = tokens.to(self.device)
        vectors = _at_least_float32(self.embedding[tokens.clamp_min(0)])  # half precision would not hold the numbers
        return torch.cat([tokens[:, :, None].to(vectors.dtype), vectors], dim=2)

    def forward(self, inputs: Sequence[str] | Tensor) -> Tensor:
        """Classify.

        Args:
            inputs: ``n`` texts; or tokens as :meth:`encode` gives them; or vectors as :meth:`vectors` gives them.

        Returns:
            Logits, shape ``[n, classes]``, float32; float64 where the network answers so.

        Raises:
            InputError: for anything else.
        """
        if not isinstance(inputs, Tensor):
            inputs = self.encode(inputs)
        if inputs.dim() == 2:
            return self._logits(inputs.to(self.device).long())
        if inputs.dim() != 3 or inputs.shape[2] != 1 + self.embedding.shape[1]:
            raise InputError(
                f"The inputs have shape {tuple(inputs.shape)} but must be a list of texts, tokens [n, length] or "
                f"vectors [n, length, {1 + self.embedding.shape[1]}]: make them with encode or vectors."
            )
        with _in_place_of(self._lookup, inputs[:, :, 1:]):
            return self._logits(inputs[:, :, 0].detach().long())

    def _logits(self, tokens: Tensor) -> Tensor:
        seen = tokens >= 0
        padded = torch.where(seen, tokens, self.tokenizer.pad_token_id)
        outputs = self.network(input_ids=padded, attention_mask=seen.long())
        logits = getattr(outputs, "logits", outputs)
        return _at_least_float32(logits)


def load_text_model(source: str | Path, *, revision: str | None = None, max_length: int | None = None) -> TextModel:
    """Load a Hugging Face text classifier with its tokenizer; only safetensors are read and no code of it is run.

    Without network, set ``HF_HUB_OFFLINE=1``: models that were downloaded before then load from the cache.

    Args:
        source: a local folder as ``save_pretrained`` writes it, or a hub id such as
            distilbert-base-uncased-finetuned-sst-2-english.
        revision: a branch, tag or commit of the hub's repository.
        max_length: tokens that the network sees of a text; its own limit by default.

    Returns:
        The model, in evaluation mode on the CPU; ``.to("cuda")`` moves it.

    Raises:
        InputError: nothing there, no safetensors weights, no classification head, no fast tokenizer, or an
            encoder-decoder; the sentence says what to do.

    Example:
        >>> load_text_model("no/such/folder")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: There is no folder no/such/folder, and it is no hub id either: give a folder that \
save_pretrained wrote with a text classifier in it, or an id such as owner/model.
    """
    checkpoint = Checkpoint(str(source), TEXTS, revision)
    checkpoint.check()
    with checkpoint.quiet():
        config = checkpoint.config()
        network = checkpoint.network(config)
        tokenizer = checkpoint.reader("build a TextModel from a network and a tokenizer of yours")
    if config.is_encoder_decoder:
        raise InputError(
            f"{source} is an encoder-decoder ({config.model_type}), which looks its tokens up twice: choose an encoder "
            "such as BERT, or a decoder."
        )
    return TextModel(
        network,
        tokenizer,
        name=checkpoint.name,
        source=str(source),
        class_names=class_names(config.id2label),
        revision=getattr(config, "_commit_hash", None),
        max_length=max_length,
    )


def _longest(tokenizer: Any, config: Any) -> int:
    """The tokenizer's limit; where it has none it says a huge number."""
    own = getattr(config, "max_position_embeddings", None) or LONGEST
    return int(tokenizer.model_max_length) if tokenizer.model_max_length < 1_000_000 else own


def _tokens(encoding: Any, text: str) -> Iterator[Token]:
    words = Counter(encoding.word_ids)
    parts = zip(encoding.ids, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask, strict=True)
    for number, (start, end), word, special in parts:
        start += len(text[start:end]) - len(text[start:end].lstrip())  # some count the space before a word to it
        alone = not text[max(start - 1, 0) : start].isalnum() and not text[end : end + 1].isalnum()
        yield Token(number, start, end, not special and end > start and (words[word] == 1 or alone))


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


@contextmanager
def _in_place_of(lookup: nn.Module, vectors: Tensor) -> Iterator[None]:
    """Let a network see these vectors instead of those it looks up."""
    hook = lookup.register_forward_hook(lambda module, inputs, output: vectors.to(output.dtype))
    try:
        yield
    finally:
        hook.remove()
