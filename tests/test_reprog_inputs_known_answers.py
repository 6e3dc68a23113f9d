from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import interpolate

from reprog.inputs import Decoder, Frame, FullImage, LowRank, Patch, SampleMask, ScaledFrame


def numbers(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(prod(shape) for shape in shapes.values())


@pytest.mark.parametrize(
    ("transform", "wanted"),
    [
        (FullImage(size=224), 3 * 224**2),
        (Frame(size=224, inner=128), 3 * 224**2),
        (LowRank(size=224, rank=4), 3 * 4 * (224 + 224)),
        (ScaledFrame(size=224, inner=128), 3 * 224**2 + 1),
        (Decoder(size=96, patch=8, width=16, triggers=8), 8 * 12**2 + 16 * 11 * 9 + 16 + 16 * 3 * 8**2),
        (Patch(size=224, side=30), 3 * 30**2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_numbers_that_are_learned_are_counted(transform: FullImage, wanted: int) -> None:
    assert numbers(transform.shapes) == wanted


@pytest.mark.parametrize(("layers", "size", "wanted"), [(5, 224, 26_499), (6, 384, 102_339)])
def test_mask_networks_have_as_many_parameters_as_the_paper_s(layers: int, size: int, wanted: int) -> None:
    transform = SampleMask(size=size, layers=layers)
    statistics = sum(prod(transform.shapes[name]) for name in transform.observed)
    assert statistics == 2 * sum((8, 16, 32, 64, 128)[: layers - 1])
    assert numbers(transform.shapes) - statistics == wanted + 3 * size**2


def test_full_image_adds_everywhere_and_stays_valid() -> None:
    x = torch.rand(2, 1, 4, 4)
    canvas = torch.linspace(-2, 2, 48).view(1, 3, 4, 4)
    out = FullImage(size=4)(x, {"canvas": canvas})
    assert out.equal((x.expand(-1, 3, -1, -1) + canvas).clamp(0, 1))


def test_full_image_is_clipped_to_what_can_show() -> None:
    program = FullImage(size=1)
    canvas = {"canvas": torch.tensor([-3.0, 0.5, 3.0]).view(1, 3, 1, 1)}
    assert program.clip(torch.zeros(1, 1, 1, 1), canvas)["canvas"].flatten().tolist() == [-1.0, 0.5, 1.0]


def test_bicubic_overshoot_is_clamped() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., ::2] = 1
    program = FullImage(size=20, interpolation="bicubic")
    out = program(x, program.start(x))
    assert float(out.min()) >= 0 and float(out.max()) <= 1


@pytest.mark.parametrize(("size", "inner"), [(6, 2), (7, 2), (7, 6), (5, 1)])
def test_frame_leaves_the_sample_untouched_and_no_gradient_inside(size: int, inner: int) -> None:
    x = torch.rand(2, 3, inner, inner)
    program = Frame(size=size, inner=inner)
    canvas = torch.randn(1, 3, size, size, requires_grad=True)
    out = program(x, {"canvas": canvas})
    before = (size - inner + 1) // 2
    middle = (..., slice(before, before + inner), slice(before, before + inner))
    assert out[middle].equal(x)
    (slope,) = torch.autograd.grad(out.sum(), canvas)
    assert slope[middle].eq(0).all()
    assert int((slope != 0).sum()) == 3 * (size**2 - inner**2)
    border = torch.sigmoid(canvas)[0, :, 0, :]
    assert out[0, :, 0, :].equal(border) and out[1, :, 0, :].equal(border)


@pytest.mark.parametrize("channels", [1, 3])
def test_low_rank_is_a_full_image_of_that_rank_in_each_channel(channels: int) -> None:
    program, x = LowRank(size=9, rank=2, channels=channels), torch.rand(4, channels, 9, 9)
    tensors = {name: 0.1 * torch.randn(shape) for name, shape in program.shapes.items()}
    canvas = program.picture(x, tensors)
    assert torch.linalg.matrix_rank(canvas[0]).tolist() == [2] * channels
    full = FullImage(size=9, channels=channels)
    assert program(x, tensors).equal(full(x, {"canvas": canvas}))
    assert canvas[0, 0, 3, 5].allclose(tensors["down"][0, 3] @ tensors["across"][0, :, 5])


@given(size=st.integers(4, 24), margin=st.integers(1, 8), high=st.integers(1, 40), wide=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_scaled_frame_starts_as_the_frame_whose_sample_is_as_large(
    size: int, margin: int, high: int, wide: int
) -> None:
    inner = max(size - 2 * margin, 1 + (size + 1) % 2)
    x = torch.rand(2, 3, high, wide)
    scaled, frame = ScaledFrame(size=size, inner=inner, least=0.01), Frame(size=size, inner=inner)
    canvas = torch.randn(1, 3, size, size)
    out = scaled(x, scaled.start(x) | {"canvas": canvas})
    assert out.allclose(frame(x, {"canvas": canvas}), atol=2e-5)


def test_a_scaled_frame_without_a_border_is_the_resized_sample() -> None:
    x = torch.rand(2, 3, 20, 5)
    program = ScaledFrame(size=12, inner=12)
    out = program(x, program.start(x) | {"canvas": torch.full((1, 3, 12, 12), 50.0)})
    assert out.allclose(interpolate(x, (12, 12), mode="bilinear", antialias=True), atol=1e-5)


def test_a_share_above_one_shows_the_middle_of_the_sample() -> None:
    x = torch.rand(2, 3, 8, 8)
    program = ScaledFrame(size=8, inner=16, most=2.0)
    enlarged = interpolate(x, (16, 16), mode="bilinear")
    assert program(x, program.start(x)).allclose(enlarged[..., 4:12, 4:12], atol=1e-5)


def test_the_learned_size_goes_where_the_loss_is_lower_and_no_further_than_its_interval() -> None:
    x = torch.ones(1, 1, 6, 6)
    program = ScaledFrame(size=16, inner=8, least=0.3, most=0.9)
    tensors = program.start(x) | {"canvas": torch.full((1, 3, 16, 16), -50.0)}  # a black border: bright means large
    for wanted, end in ((180.0, (180 / 256) ** 0.5), (0.0, 0.3), (256.0, 0.9)):
        for _ in range(200):
            share = tensors["share"].clone().requires_grad_()
            bright = program(x, tensors | {"share": share})[0, 0].sum()
            (slope,) = torch.autograd.grad((bright - wanted).square(), share)
            tensors = program.clip(x, tensors | {"share": tensors["share"] - 2e-6 * slope})
        assert float(tensors["share"]) == pytest.approx(end, abs=1e-3)


def test_the_gradient_in_the_size_is_that_of_differences() -> None:
    x = torch.rand(2, 1, 7, 30).double()
    program = ScaledFrame(size=10, inner=6)
    canvas = torch.randn(1, 3, 10, 10).double()
    share = torch.tensor([0.6137], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda share: program(x, {"canvas": canvas, "share": share}), share, eps=1e-7)


def test_a_patch_covers_its_place_and_nothing_else() -> None:
    program, x = Patch(size=8, side=3, top=4, left=1), torch.rand(2, 3, 8, 8)
    canvas = torch.randn(1, 3, 3, 3)
    out = program(x, {"canvas": canvas})
    assert out[..., 4:7, 1:4].allclose(torch.sigmoid(canvas))
    out[..., 4:7, 1:4] = x[..., 4:7, 1:4]
    assert out.equal(x)


class MaskNetwork(nn.Sequential):
    """The paper's network of layers as torch has them, holding a program's tensors."""

    def __init__(self, layers: int, patch: int, tensors: dict[str, Tensor]) -> None:
        widths, parts = (3, 8, 16, 32, 64, 128)[:layers], []
        for i in range(layers - 1):
            convolution, norm = nn.Conv2d(widths[i], widths[i + 1], 3, 1, 1), nn.BatchNorm2d(widths[i + 1])
            values = [tensors[f"{name}_{i}"] for name in ("weight", "bias", "gain", "shift", "mean", "variance")]
            for module, names in ((convolution, ("weight", "bias")), (norm, ("weight", "bias"))):
                for name in names:
                    getattr(module, name).data = values.pop(0).clone()
            norm.running_mean, norm.running_var = (value.clone() for value in values)
            parts += [convolution, norm, nn.ReLU(), *([nn.MaxPool2d(2)] if 2**i < patch else [])]
        last = nn.Conv2d(widths[-1], 3, 3, 1, 1)
        last.weight.data, last.bias.data = (tensors[f"{name}_{layers - 1}"].clone() for name in ("weight", "bias"))
        super().__init__(*parts, last, nn.Upsample(scale_factor=patch, mode="nearest"))


@pytest.mark.parametrize(("layers", "patch"), [(5, 1), (5, 8), (5, 16), (6, 8), (6, 32)])
def test_masks_are_those_of_the_paper_s_network_of_torch_s_layers(layers: int, patch: int) -> None:
    program, x = SampleMask(size=64, layers=layers, patch=patch), torch.rand(4, 3, 64, 64)
    tensors = program.start(x, seed=1) | {"canvas": 0.3 * torch.randn(1, 3, 64, 64)}
    network = MaskNetwork(layers, patch, tensors).train()
    without = {name: tensor for name, tensor in tensors.items() if name not in program.observed}
    in_training = (x + tensors["canvas"] * network(x)).clamp(0, 1)
    assert program(x, without).allclose(in_training, atol=1e-4)
    tensors |= program.observe(x, tensors)
    norms = [module for module in network if isinstance(module, nn.BatchNorm2d)]
    for i, norm in enumerate(norms):
        assert tensors[f"mean_{i}"].allclose(norm.running_mean, atol=1e-5)
        assert tensors[f"variance_{i}"].allclose(norm.running_var, rtol=1e-4)
    applied = (x + tensors["canvas"] * network.eval()(x)).clamp(0, 1)
    assert program(x, tensors).allclose(applied, atol=1e-4)
    assert not applied.allclose(in_training, atol=1e-3)


def test_a_mask_has_one_value_in_each_square_and_channel_and_its_own_for_each_sample() -> None:
    program, x = SampleMask(size=32, patch=8), torch.rand(2, 3, 32, 32)
    mask = program.picture(x, program.start(x) | {"canvas": torch.ones(1, 3, 32, 32)})
    squares = mask.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert squares.eq(squares[..., :1]).all()
    assert len(squares[..., 0].unique()) == 2 * 3 * 16


def test_a_decoder_sees_average_colours_of_a_square_and_its_neighbours() -> None:
    program, x = Decoder(size=32, patch=8, epsilon=0.25), torch.rand(1, 3, 32, 32)
    tensors = {name: torch.randn(shape) for name, shape in program.shapes.items()}
    before = program.picture(x, tensors)
    assert 0.2 < float(before.abs().max()) <= 0.25
    shuffled, brighter = x.clone(), x.clone()
    shuffled[..., :8, :8] = x[..., :8, :8].flip(-1)  # the same average
    brighter[..., :8, :8] = 1
    assert program.picture(shuffled, tensors).allclose(before, atol=1e-5)
    changed = (program.picture(brighter, tensors) - before).abs().amax(1)[0] > 1e-6
    assert changed[:16, :16].any() and not changed[16:].any() and not changed[:, 16:].any()


def test_a_decoder_that_sees_no_sample_is_the_same_image_for_all() -> None:
    program, x = Decoder(size=16, patch=4), torch.rand(3, 1, 16, 16)
    tensors = {name: torch.randn(shape) for name, shape in program.shapes.items()}
    tensors["weight"][:, :3] = 0
    pictures = program.picture(x.expand(-1, 3, -1, -1), tensors)
    assert pictures[0].equal(pictures[1]) and pictures[0].equal(pictures[2])
