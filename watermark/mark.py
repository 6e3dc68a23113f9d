"""The recipe of a mark: all that is needed, beside the key, to derive its triggers again. It holds no secret."""

import hashlib
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from attacks.errors import InputError
from attacks.files import read_json, write_atomically, write_json, writing_into

from .keys import DOMAIN, KeyedStream, OwnerKey, encode
from .triggers import FAMILIES, TriggerSet

FORMAT = "repromark-mark"
CONFIG, CARRIERS = "config.json", "carriers.safetensors"
_REDRAWS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Mark:
    """A recipe for triggers. The labels depend on all of it, carriers included.

    So nobody can choose carriers, a count or a family to fit labels that are known already: whatever is changed, all
    labels are drawn anew.

    Args:
        classes: how many classes the model tells apart, at least 2; labels are drawn from all of them.
        n: how many triggers; n labels can show at most ``n * log2(classes)`` bits.
        family: a name in ``watermark.triggers.FAMILIES``.
        carriers: 8-bit images that the family ``blend`` mixes, uint8, shape ``[m, c, h, w]``; best are at least ``2 n``
            images of the task, private and not trained on. None for a family that needs no data.
        shape: of one input, ``(c, h, w)``; may be left out with carriers.
        nonce: public text that tells this mark from the key's other marks; random where not given.

    Attributes:
        digest: SHA-256 of the whole recipe, 64 hex digits.

    Raises:
        InputError: a part is missing or does not fit the others.

    Example:
        >>> mark = Mark(family="shapes", n=3, classes=10, shape=(1, 8, 8), nonce="example")
        >>> triggers = mark.triggers(OwnerKey(bytes(32)))  # for the example only: use OwnerKey.generate()
        >>> triggers.inputs.shape, triggers.labels.tolist()
        (torch.Size([3, 1, 8, 8]), [7, 2, 0])
    """

    classes: int
    n: int = 100
    family: str = "blend"
    carriers: Tensor | None = field(default=None, repr=False)
    shape: tuple[int, ...] | None = None
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InputError(f"There is no trigger family {self.family!r}: use one of {', '.join(sorted(FAMILIES))}.")
        if type(self.classes) is not int or type(self.n) is not int or self.classes < 2 or self.n < 1:
            raise InputError(
                f"Got classes={self.classes} and n={self.n}: both are whole numbers, and a mark needs at least "
                "2 classes and 1 trigger."
            )
        if not isinstance(self.nonce, str):
            raise InputError(f"Got nonce={self.nonce!r}: it is a text, or left out to draw a random one.")
        self._check_carriers()
        shape = self.shape if self.carriers is None else self.carriers.shape[1:]
        sides = () if shape is None else tuple(shape)
        whole = len(sides) == 3 and all(type(side) is int and side > 0 for side in sides)
        if not whole or tuple(self.shape or sides) != sides:
            raise InputError(
                f"Got shape={self.shape}: give the shape of one image, (channels, height, width); with carriers it is "
                "theirs and can be left out."
            )
        object.__setattr__(self, "shape", sides)
        if self.carriers is not None:  # a copy: whoever changes theirs later must not change what the digest stands for
            object.__setattr__(self, "carriers", self.carriers.clone())

    def _check_carriers(self) -> None:
        fewest, given = FAMILIES[self.family].carriers, self.carriers
        if fewest == 0 and given is not None:
            raise InputError(f"The trigger family {self.family!r} needs no carriers: leave them out.")
        if fewest and (given is None or given.dtype != torch.uint8 or given.dim() != 4 or len(given) < fewest):
            came = "none" if given is None else f"{given.dtype} of shape {list(given.shape)}"
            raise InputError(
                f"The trigger family {self.family!r} mixes carriers and got {came}: give at least {fewest} images of "
                "the task, uint8, shape [m, c, h, w]; (images * 255).round().to(torch.uint8) makes them from [0, 1]."
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole recipe, 64 hex digits."""
        assert self.shape is not None
        pixels = b"" if self.carriers is None else self.carriers.cpu().contiguous().numpy().tobytes()
        count = 0 if self.carriers is None else len(self.carriers)
        recipe = encode(DOMAIN, "mark", self.family, self.n, self.classes, *self.shape, self.nonce, count, pixels)
        return hashlib.sha256(recipe).hexdigest()

    def labels(self, key: OwnerKey) -> Tensor:
        """The keyed labels, int64, shape ``[n]``: uniform over all classes and independent of the inputs."""
        return torch.tensor([KeyedStream(seed, "label").integer(self.classes) for seed in self._seeds(key)])

    def triggers(self, key: OwnerKey) -> TriggerSet:
        """The trigger set of a key.

        Trigger ``i`` follows from a secret of its own, so single triggers can be shown to a judge without the others.

        Raises:
            InputError: the carriers are so few or so alike that blends repeat.
        """
        assert self.shape is not None
        family = FAMILIES[self.family]
        inputs: dict[bytes, Tensor] = {}  # by their bytes: one input with two labels could never match both
        for seed in self._seeds(key):
            stream = KeyedStream(seed, "input")
            for _ in range(_REDRAWS):
                image = family.draw(stream, self.shape, self.carriers)
                if (content := image.numpy().tobytes()) not in inputs:
                    break
            else:
                raise InputError(
                    f"These carriers do not give {self.n} different triggers: use more carriers or a smaller n."
                )
            inputs[content] = image
        return TriggerSet(torch.stack(list(inputs.values())), self.labels(key), self.classes)

    def _seeds(self, key: OwnerKey) -> list[bytes]:
        return [key.derive("trigger", self.digest, index) for index in range(self.n)]

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes ``config.json`` and, with carriers, ``carriers.safetensors`` into a folder, which is made if need be.

        Nothing in it is secret, but keep it private until a dispute: it tells which images were mixed.

        Raises:
            InputError: the folder holds another mark, which would be lost, or cannot be written.
        """
        folder = Path(folder)
        config = folder / CONFIG
        if config.exists() and Mark.from_pretrained(folder).digest != self.digest:
            raise InputError(f"{folder} already holds another mark: choose another folder, or remove that one first.")
        named = {name: getattr(self, name) for name in ("family", "n", "classes", "shape", "nonce", "digest")}
        with writing_into(folder):
            if self.carriers is not None:
                write_atomically(folder / CARRIERS, save({"carriers": self.carriers.cpu().contiguous()}))
            write_json(config, {"format": FORMAT, "version": 1, **named})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Mark":
        """Reads a mark that :meth:`save_pretrained` wrote.

        Raises:
            InputError: the folder holds no mark, or one that was changed.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"There is no mark in {folder}: it should hold {CONFIG}, as Mark.save_pretrained writes it."
            )
        try:
            config = read_json(folder / CONFIG)
            if (config.pop("format"), config.pop("version")) != (FORMAT, 1):
                raise ValueError("another format")
            digest, shape = config.pop("digest"), tuple(config.pop("shape"))
            carriers = load_file(folder / CARRIERS)["carriers"] if FAMILIES[config["family"]].carriers else None
            mark = cls(shape=shape, carriers=carriers, **config)
            changed = mark.digest != digest
        except (ValueError, TypeError, KeyError, AttributeError, OSError, SafetensorError) as error:
            raise InputError(f"{folder} holds no whole mark of version 1 ({error}): restore it from a copy.") from error
        if changed:
            raise InputError(f"The mark in {folder} was changed since it was saved: restore it from a copy.")
        return mark
