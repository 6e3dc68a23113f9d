"""What every input program is: a perturbation with one set of named tensors for all samples."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from attacks.engine import Parameters, Perturbation


class InputProgram(Perturbation, Protocol):
    """A shared perturbation that also fits the target's samples to the source model's input.

    A user's own needs these and no base class; to be saved, it is a dataclass of plain settings that ``INPUTS`` names.
    """

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest valid entry of a sample."""
        ...

    @property
    def input_size(self) -> tuple[int, ...]:
        """The size of the inputs that it makes, as the model states it; for images height and width."""
        ...

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learned tensors' shapes by name; other than a mapping's ``matrix``, ``bias``, ``temperature``."""
        ...

    def start(self, x: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
        """The tensors before training, on the device of the samples ``x``; what is random is drawn with the seed."""
        ...

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """The nearest tensors that make only inputs which can exist."""
        ...


@runtime_checkable
class Observing(InputProgram, Protocol):
    """An input program with tensors that no gradient moves: statistics of the samples that have gone by.

    In training it is called without them, so that it can tell (batch normalisation then uses the batch's own), and
    hears of each batch afterwards. Saved and applied, they are tensors like all others.
    """

    @property
    def observed(self) -> tuple[str, ...]:
        """The names of those tensors, of those in ``shapes``."""
        ...

    def observe(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """Those tensors after the samples ``x``, shape ``[n, ...]``, have gone by; ``parameters`` are all of them."""
        ...
