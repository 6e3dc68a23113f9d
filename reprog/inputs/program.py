"""What every input program is: a perturbation with one set of named tensors for all samples."""

from typing import Protocol

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
        """The learned tensors' shapes by name; other names than a mapping's ``matrix`` and ``bias``."""
        ...

    def start(self, x: Tensor) -> dict[str, Tensor]:
        """The tensors before training, on the device of the samples ``x``."""
        ...

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """The nearest tensors that make only inputs which can exist."""
        ...
