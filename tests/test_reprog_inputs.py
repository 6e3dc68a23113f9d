import pytest
import torch
from torch.nn.functional import interpolate

from attacks.errors import InputError
from reprog import Frame, FullImage, RandomAffine


def test_full_image_without_a_program_is_the_resized_image() -> None:
    x = torch.rand(2, 3, 5, 7)
    program = FullImage(size=9)
    wanted = interpolate(x, (9, 9), mode="bilinear", align_corners=False)
    assert program(x, program.start(x)).allclose(wanted, atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_samples_are_resized_as_the_setting_says(mode: str) -> None:
    x = torch.rand(2, 3, 5, 7)
    wanted = interpolate(x, (9, 9), mode=mode, antialias=mode != "nearest").clamp(0, 1)
    for program in (FullImage(size=9, interpolation=mode), Frame(size=12, inner=9, interpolation=mode)):  # type: ignore[arg-type]
        assert program.fit_to(x, 9).allclose(wanted, atol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_checkerboard_shrinks_to_grey(mode: str) -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    x = board.float()[None, None]
    program = FullImage(size=7, interpolation=mode)  # type: ignore[arg-type]
    assert (program(x, program.start(x)) - 0.5).abs().max() < 0.05
    frame = Frame(size=9, inner=7, interpolation=mode)  # type: ignore[arg-type]
    assert (frame(x, frame.start(x)) - 0.5).abs().max() < 0.05


def test_full_image_adds_everywhere_and_stays_valid() -> None:
    x = torch.rand(2, 1, 4, 4)
    canvas = torch.linspace(-2, 2, 48).view(1, 3, 4, 4)
    out = FullImage(size=4)(x, {"canvas": canvas})
    assert out.equal((x.expand(-1, 3, -1, -1) + canvas).clamp(0, 1))


def test_lower_contrast_shrinks_towards_grey() -> None:
    x = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    program = FullImage(size=1, contrast=0.5)
    assert program(x, program.start(x))[:, 0, 0, 0].allclose(torch.tensor([0.25, 0.5, 0.75]))


def test_full_image_is_clipped_to_what_can_show() -> None:
    program = FullImage(size=1)
    canvas = {"canvas": torch.tensor([-3.0, 0.5, 3.0]).view(1, 3, 1, 1)}
    assert program.clip(torch.zeros(1, 1, 1, 1), canvas)["canvas"].flatten().tolist() == [-1.0, 0.5, 1.0]


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


def test_grey_and_colour_samples_give_the_same_canvas() -> None:
    grey = torch.rand(2, 1, 4, 4)
    for program in (FullImage(size=6), Frame(size=6, inner=3)):
        start = program.start(grey)
        assert program(grey, start).equal(program(grey.expand(-1, 3, -1, -1).contiguous(), start))


def test_bicubic_overshoot_is_clamped() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., ::2] = 1
    program = FullImage(size=20, interpolation="bicubic")
    out = program(x, program.start(x))
    assert float(out.min()) >= 0 and float(out.max()) <= 1


@pytest.mark.parametrize("shape", [(2, 2, 4, 4), (4, 4), (1, 4, 4)])
def test_samples_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="an image program takes"):
        FullImage(size=4).fit_to(torch.rand(shape), 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FullImage(size=0),
        lambda: FullImage(size=4, contrast=0.0),
        lambda: FullImage(size=4, interpolation="cubic"),  # type: ignore[arg-type]
        lambda: Frame(size=4, inner=4),
        lambda: Frame(size=4),
        lambda: RandomAffine(size=4, scale=1.0),
    ],
)
def test_settings_that_cannot_work_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]


def test_no_random_change_leaves_images_as_they_are() -> None:
    x = torch.rand(3, 1, 8, 8)
    still = RandomAffine(size=8, degrees=0, shift=0, scale=0, shear=0)
    assert still(x, torch.Generator().manual_seed(0)).allclose(x, atol=1e-5)


def test_random_changes_differ_between_images_and_repeat_with_the_seed() -> None:
    x = torch.rand(1, 1, 8, 8).expand(2, -1, -1, -1)
    change = RandomAffine(size=12)
    first, again = (change(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.equal(again)
    assert not first[0].allclose(first[1], atol=0.01)
    assert first.shape == (2, 1, 12, 12)


def test_a_checkerboard_stays_grey_where_augmentation_shrinks_it() -> None:
    board = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float()[None, None]
    still = RandomAffine(size=7, degrees=0, shift=0, scale=0, shear=0)
    assert (still(board, torch.Generator().manual_seed(0)) - 0.5).abs().max() < 0.05


def test_shift_is_bounded() -> None:
    x = torch.zeros(200, 1, 21, 21)
    x[..., 10, 10] = 1
    moved = RandomAffine(size=21, degrees=0, shift=0.2, scale=0, shear=0)(x, torch.Generator().manual_seed(0))
    columns = (moved.sum((1, 2)) * torch.arange(21)).sum(1) / moved.sum((1, 2, 3))
    assert 1.5 < float((columns - 10).abs().max()) <= 0.2 * 21 / 2 + 1e-4
