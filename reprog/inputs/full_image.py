"""One learned image added all over every sample."""

from dataclasses import dataclass

from torch import Tensor

from attacks.engine import Parameters

from .image import AddedImage, named


@dataclass(frozen=True)
class FullImage(AddedImage):
    """One learned image, ``canvas``, is added to every sample.

    Source: the full watermark of Cai et al., "Sample-specific masks for visual reprogramming-based prompting", ICML
    2024. There it is added after normalisation and never clamped; here every input is a valid image.

    Example:
        >>> import torch
        >>> program = FullImage(size=4)
        >>> x = torch.full((2, 1, 2, 2), 0.25)
        >>> program(x, program.start(x)).shape
        torch.Size([2, 3, 4, 4])
        >>> program(x, {"canvas": torch.ones(1, 3, 4, 4)}).unique()
        tensor([1.])
    """

    def picture(self, sample: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """The learned image, shape ``[1, channels, size, size]``."""
        return tensors["canvas"]

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """Within one full range of brightness: beyond it no sample would change any further."""
        return {"canvas": named(parameters)["canvas"].clamp(-1, 1)}
