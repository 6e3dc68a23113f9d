"""Text classifiers of every build with their tokenizer: the same logits as transformers' own, and vectors to move."""

import json
from functools import partial

import pytest
import torch
import transformers
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    GPT2Tokenizer,
    RobertaTokenizer,
)

from attacks.errors import InputError
from attacks.models.text import TextModel, load_text_model

TEXTS = [
    "good",
    "A really good film, isn't it?  Playing again...",
    "bad  bad bad acting; the plot was unplayable .",
    "the film",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "a", "film", "plot", "acting", "was", "good", "bad", "fine", "really", "it", "isn", "t", "playing"]
PARTS = ["un", "##play", "##able", "##ing", "play", ".", ",", ";", "?", "'", "[unused0]"]
VOCABULARY = [*SPECIAL, *WORDS, *PARTS]


def wordpiece():
    return BertTokenizer(vocab={word: number for number, word in enumerate(VOCABULARY)})


def byte_pairs(cls=GPT2Tokenizer, **settings):
    """All bytes, and merges that make words of the texts single tokens where a space stands before them."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges, tokens = [], list(bytes_to_unicode().values())
    for word in ("good", "film", "bad", "the", "acting"):
        steps = [(word[:end], word[end]) for end in range(1, len(word))]
        merges += [pair for pair in [*steps, ("Ġ", word)] if pair not in merges]
        tokens += [word[: end + 1] for end in range(1, len(word))] + [f"Ġ{word}"]
    marks = list(settings.values())
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*marks, *tokens]))}
    return cls(vocab=vocabulary, merges=merges, **settings)


def roberta_tokens():
    return byte_pairs(
        RobertaTokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip


def gpt2_tokens():
    return byte_pairs(
        unk_token="<|endoftext|>", bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<pad>"
    )


def sentence_pieces(split):
    """Words that begin with a mark in the place of the space before them."""
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import Unigram
    from tokenizers.pre_tokenizers import Metaspace
    from transformers import PreTrainedTokenizerFast

    letters = sorted({letter for text in TEXTS for letter in text if letter != " "} | {"▁", "!", ","})
    words = [f"▁{word}" for word in ("good", "film", "bad", "the", "acting", "a")]
    scores = {"<pad>": 0.0, "<unk>": 0.0, **dict.fromkeys(words, -1.0), **dict.fromkeys(letters, -9.0)}
    tokenizer = Tokenizer(Unigram(list(scores.items()), unk_id=1))
    tokenizer.pre_tokenizer, tokenizer.decoder = Metaspace(split=split), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
BUILDS = {
    "Bert": (wordpiece, SMALL),
    "DistilBert": (wordpiece, {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}),
    "Albert": (wordpiece, {**SMALL, "embedding_size": 8}),
    "Roberta": (roberta_tokens, {**SMALL, "type_vocab_size": 1}),
    "XLMRoberta": (partial(sentence_pieces, True), {**SMALL, "type_vocab_size": 1}),
    "RoFormer": (partial(sentence_pieces, False), SMALL),
    "GPT2": (gpt2_tokens, {"n_embd": 16, "n_layer": 2, "n_head": 2}),
}


def save(folder, build="Bert", **settings):
    tokens, sizes = BUILDS[build]
    tokenizer = tokens()
    config = getattr(transformers, f"{build}Config")(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_labels=3, **sizes, **settings
    )
    config.initializer_range = 0.3  # with the usual 0.02 the texts would hardly differ
    torch.manual_seed(0)
    network = getattr(transformers, f"{build}ForSequenceClassification")(config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {build: save(tmp_path_factory.mktemp(build), build) for build in BUILDS}


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "net")


@pytest.mark.parametrize("build", BUILDS)
def test_the_logits_are_transformers_own(folders, build):
    model = load_text_model(folders[build])
    tokenizer = AutoTokenizer.from_pretrained(folders[build])
    network = AutoModelForSequenceClassification.from_pretrained(folders[build]).eval()
    with torch.no_grad():
        alone = torch.cat([network(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
        assert torch.allclose(model(TEXTS), alone, atol=1e-5)
        assert torch.allclose(model(model.encode(TEXTS)), alone, atol=1e-5)
    assert alone.std(0).min() > 1e-3  # the texts differ


@pytest.mark.parametrize("build", BUILDS)
def test_at_the_looked_up_vectors_the_logits_are_the_same_and_have_a_gradient(folders, build):
    model = load_text_model(folders[build])
    tokens = model.encode(TEXTS)
    vectors = model.vectors(tokens).requires_grad_()
    logits = model(vectors)
    assert torch.allclose(logits, model(TEXTS), atol=1e-5)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), vectors)
    size = slope.norm(dim=2)
    assert (size[tokens < 0] == 0).all() and (size[tokens >= 0] > 0).float().mean() > 0.5
    assert not model.network.get_input_embeddings()._forward_hooks


def test_the_gradient_is_that_of_the_vectors(folders):
    model = load_text_model(folders["Bert"]).double()
    vectors = model.vectors(model.encode(TEXTS[:2]))[:, :, 1:]
    tokens = model.encode(TEXTS[:2])[:, :, None].double()

    def logits(vectors):
        return model(torch.cat([tokens, vectors], dim=2))

    torch.autograd.gradcheck(logits, vectors.detach().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("build", BUILDS)
def test_the_words_are_read_as_they_are_written(folders, build):
    model = load_text_model(folders[build])
    words = model.words
    assert {"good", "bad", "film"} <= set(words.spellings) and len(words) == len(words.tokens)
    for token, spelling in zip(words.tokens.tolist(), words.spellings, strict=True):
        for text in (f"a {spelling} film", f"film, {spelling}!"):
            assert [read.number for read in model.tokens([text])[0] if read.whole].count(token) >= 1, text
    assert not set(words.tokens.tolist()) & set(model.tokenizer.all_special_ids)


def test_parts_of_words_and_marks_are_no_words(folders):
    model = load_text_model(folders["Bert"])
    assert set(model.words.spellings) == {*WORDS, "un", "play"}


def test_where_the_tokens_stand(folders):
    model = load_text_model(folders["Bert"])
    text = "Unplayable FILM!"
    tokens = model.tokens([text])[0]
    assert [text[token.start : token.end] for token in tokens] == ["", "Un", "play", "able", "FILM", "!", ""]
    assert [token.whole for token in tokens] == [False, False, False, False, True, True, False]


def test_a_text_ends_where_the_network_stops_reading(folder):
    model = load_text_model(folder, max_length=5)
    assert model.encode(TEXTS).shape == (4, 5)
    assert [len(tokens) for tokens in model.tokens(TEXTS)] == [3, 5, 5, 4]
    assert load_text_model(folder).max_length == 512


def test_a_network_of_your_own():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.lookup = nn.Embedding(len(VOCABULARY), 4)

        def get_input_embeddings(self):
            return self.lookup

        def forward(self, input_ids, attention_mask):
            return (self.lookup(input_ids) * attention_mask[:, :, None]).sum(1)

    model = TextModel(Counts(), wordpiece(), name="counts", source="here")
    assert torch.allclose(model(["good film"]), model(["good  FILM"])) and model.max_length == 512
    assert torch.allclose(model(["good", "good film"])[0], model(["good"])[0])


def test_names_come_from_the_config(tmp_path):
    save(tmp_path, id2label={0: "yes", 1: "no", 2: "so"})
    model = load_text_model(str(tmp_path))
    assert (model.class_names, model.name, model.source) == (["yes", "no", "so"], tmp_path.name, str(tmp_path))
    assert not model.training


def drop(folder, name):
    (folder / name).unlink()


def decoder_of_something_else(folder):
    config = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 40, "max_position_embeddings": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    config = transformers.BartConfig(**config, **heads, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    transformers.BartForSequenceClassification(config).save_pretrained(folder)


def without_head(folder):
    transformers.BertModel(transformers.BertConfig(vocab_size=len(VOCABULARY), **SMALL)).save_pretrained(folder)


def pickled(folder):
    drop(folder, "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")


def own_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")


DAMAGES = {
    "no config.json": lambda folder: drop(folder, "config.json"),
    "no weights": lambda folder: drop(folder, "model.safetensors"),
    r"pickle \(.bin\)": pickled,
    "no tokenizer that can be read": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "encoder-decoder": decoder_of_something_else,
    "fine-tuned for text classification": without_head,
    "cannot be read as a text classifier": own_code,
}


@pytest.mark.parametrize("sentence", DAMAGES)
def test_a_folder_that_is_no_classifier_gets_a_sentence(folder, sentence):
    DAMAGES[sentence](folder)
    with pytest.raises(InputError, match=sentence):
        load_text_model(folder)


def test_an_image_classifier_is_refused(tmp_path):
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no text-classification head: choose a text classifier"):
        load_text_model(tmp_path)


@pytest.mark.parametrize("source", ["no-such-owner/no-such-model", "no-such-model", "a/b/c"])
def test_what_is_not_there_is_refused(source):
    with pytest.raises(InputError, match="spelling|no folder"):
        load_text_model(source)


def test_a_tokenizer_without_padding_is_refused(folder):
    tokenizer = wordpiece()
    tokenizer.pad_token = None
    with pytest.raises(InputError, match="no padding token"):
        TextModel(nn.Embedding(2, 2), tokenizer, name="net", source="net")


@pytest.mark.parametrize("inputs", [torch.zeros(2), torch.zeros(2, 3, 5)])
def test_tensors_of_another_shape_are_refused(folders, inputs):
    with pytest.raises(InputError, match="make them with encode or vectors"):
        load_text_model(folders["Bert"])(inputs)
