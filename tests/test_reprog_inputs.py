from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import AdamW

from attacks.errors import InputError
from reprog import Linear, Program, RandomAffine, fit
from reprog.inputs import (
    INPUTS,
    Decoder,
    Frame,
    FullImage,
    Interpolation,
    LowRank,
    Observing,
    Patch,
    SampleMask,
    ScaledFrame,
)
from reprog.inputs.image import AddedImage, ImageProgram

TRANSFORMS: list[ImageProgram] = [
    FullImage(size=16),
    Frame(size=16, inner=10),
    LowRank(size=16, rank=3),
    ScaledFrame(size=16, inner=10),
    SampleMask(size=16, patch=4),
    Decoder(size=16, patch=4, width=6, triggers=2),
    Patch(size=16, side=5, top=2, left=9),
]
ADDED = [transform for transform in TRANSFORMS if isinstance(transform, AddedImage)]
each = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)
each_added = pytest.mark.parametrize("transform", ADDED, ids=lambda transform: type(transform).__name__)


def moved(transform: ImageProgram, x: Tensor, spread: float = 0.3, seed: int = 5) -> dict[str, Tensor]:
    """The tensors as they may be after training: each somewhere else than at the start, and valid."""
    draws = torch.Generator().manual_seed(seed)
    start = transform.start(x)
    tensors = {name: tensor + spread * torch.randn(tensor.shape, generator=draws) for name, tensor in start.items()}
    tensors |= {name: tensor.abs() + 0.1 for name, tensor in tensors.items() if name.startswith("variance")}
    return transform.clip(x, tensors)


def test_every_transform_that_can_be_saved_has_a_row() -> None:
    assert {type(transform) for transform in TRANSFORMS} == set(INPUTS.values())


@given(
    row=st.sampled_from(range(len(TRANSFORMS))),
    n=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    high=st.integers(1, 40),
    wide=st.integers(1, 40),
    spread=st.sampled_from([0.0, 0.3, 30.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_samples_of_any_number_size_and_colour_become_valid_images(
    row: int, n: int, channels: int, high: int, wide: int, spread: float, seed: int
) -> None:
    transform = TRANSFORMS[row]
    x = torch.rand(n, channels, high, wide, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    out = transform(x, moved(transform, x, spread, seed))
    assert out.shape == (n, 3, 16, 16) == (n, transform.channels, *transform.input_size) and out.dtype == x.dtype
    assert float(out.min()) >= 0 and float(out.max()) <= 1


@each
def test_a_canvas_may_be_grey_for_models_of_grey_images(transform: ImageProgram) -> None:
    grey = replace(transform, channels=1)
    colours = torch.rand(2, 3, 16, 16)
    brightness = (colours * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    tensors = moved(grey, colours)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == grey.shapes
    out = grey(colours, tensors)
    assert out.shape == (2, 1, 16, 16) and out.allclose(grey(brightness, tensors), atol=1e-6)


@each
def test_the_tensors_are_as_stated_and_on_no_mapping_s_name(transform: ImageProgram) -> None:
    start = transform.start(torch.rand(1, 1, 4, 4))
    assert {name: tuple(tensor.shape) for name, tensor in start.items()} == transform.shapes
    assert not {"matrix", "bias", "fingerprints"} & set(start)
    assert all(tensor.dtype == torch.float32 for tensor in start.values())


@each_added
def test_what_is_added_starts_at_nothing(transform: AddedImage) -> None:
    x = torch.rand(2, 1, 16, 16)
    assert transform(x, transform.start(x, seed=3)).equal(x.expand(-1, 3, -1, -1))
    x = torch.rand(2, 3, 5, 7)
    wanted = interpolate(x, (16, 16), mode="bilinear", align_corners=False)
    assert transform(x, transform.start(x)).allclose(wanted, atol=1e-6)


@each_added
def test_lower_contrast_shrinks_towards_grey(transform: AddedImage) -> None:
    flatter = replace(transform, contrast=0.5)
    x = torch.rand(2, 3, 16, 16)
    assert flatter(x, flatter.start(x)).allclose(0.25 + 0.5 * x)


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "in training"])
@each
def test_a_gradient_reaches_every_learned_tensor(transform: ImageProgram, applied: bool) -> None:
    x = torch.rand(3, 1, 8, 8) * 0.5 + 0.25
    observed = transform.observed if isinstance(transform, Observing) else ()
    tensors = moved(transform, x, 0.05)
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items() if name not in observed}
    still = {name: tensors[name] for name in observed if applied}
    transform(x, leaves | still).mul(torch.randn(3, 3, 16, 16)).sum().backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any(), name


@each
def test_the_start_repeats_with_the_seed_and_leaves_torch_s_own_chance_alone(transform: ImageProgram) -> None:
    x = torch.rand(1, 1, 8, 8)
    before = torch.get_rng_state()
    first, other = transform.start(x, seed=1), transform.start(x, seed=2)
    assert before.equal(torch.get_rng_state())
    again = transform.start(torch.rand(4, 3, 5, 5), seed=1)
    assert all(first[name].equal(again[name]) for name in first)
    drawn = isinstance(transform, LowRank | SampleMask | Decoder)
    assert drawn == any(not first[name].equal(other[name]) for name in first)


@each
def test_clipping_what_is_clipped_changes_nothing_and_leaves_the_mapping_alone(transform: ImageProgram) -> None:
    x = torch.rand(1, 1, 8, 8)
    once = transform.clip(x, moved(transform, x, 3.0) | {"matrix": torch.ones(2, 2)})
    twice = transform.clip(x, once)
    assert once.keys() == transform.shapes.keys() and all(once[name].equal(twice[name]) for name in once)


@each
def test_an_applied_program_makes_of_a_sample_the_same_in_any_batch(transform: ImageProgram) -> None:
    x = torch.rand(5, 3, 9, 9)
    tensors = moved(transform, x, 0.1)
    alone = torch.cat([transform(one, tensors) for one in x.split(1)])
    assert transform(x, tensors).allclose(alone, atol=1e-5)


@each
def test_everything_is_made_where_the_samples_are(transform: ImageProgram) -> None:
    x = torch.rand(2, 3, 9, 9, device="meta")  # tensors on this device and others do not mix
    tensors = transform.start(x)
    assert {tensor.device for tensor in (*tensors.values(), transform(x, tensors))} == {x.device}
    if isinstance(transform, Observing):
        assert transform.observe(x, tensors)["mean_0"].device == x.device


@each
def test_grey_and_colour_samples_give_the_same_canvas(transform: ImageProgram) -> None:
    grey = torch.rand(2, 1, 4, 4)
    tensors = moved(transform, grey)
    assert transform(grey, tensors).equal(transform(grey.expand(-1, 3, -1, -1).contiguous(), tensors))


@each
def test_a_checkerboard_shrinks_to_grey(transform: ImageProgram) -> None:
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[None, None]
    assert (transform(board, transform.start(board)) - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_samples_are_resized_as_the_setting_says(mode: Interpolation) -> None:
    x = torch.rand(2, 3, 5, 7)
    wanted = interpolate(x, (9, 9), mode=mode, antialias=mode != "nearest").clamp(0, 1)
    for transform in TRANSFORMS:
        if type(transform) is not ScaledFrame or mode == "bilinear":
            assert replace(transform, interpolation=mode).fit_to(x, 9).allclose(wanted, atol=1e-6)


@each
@pytest.mark.parametrize("shape", [(2, 2, 4, 4), (4,), (4, 4), (1, 4, 4)])
def test_samples_that_are_no_images_are_refused(transform: ImageProgram, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="an image program takes"):
        transform(torch.rand(shape), transform.start(torch.rand(1, 1, 4, 4)))


class Small(nn.Module):
    """A small frozen network on canvases of 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(150, 7))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def task(n: int = 30) -> tuple[Tensor, Tensor]:
    """Images whose class is the row that is bright."""
    labels = torch.arange(n) % 3
    images = torch.rand(n, 1, 3, 3, generator=torch.Generator().manual_seed(n)) * 0.3
    images[torch.arange(n), 0, labels] += 0.6
    return images, labels


def trained(transform: ImageProgram, seed: int = 0, **options: object) -> tuple[Program, list[float]]:
    program = Program(transform, Linear(), classes=3)
    settings: dict = {"epochs": 4, "learning_rate": 0.02, "batch_size": 10} | options
    history = fit(program, Small(), *task(), seed=seed, **settings)
    return program, [epoch.loss for epoch in history.epochs]


@each
def test_training_lowers_the_loss_and_moves_every_tensor(transform: ImageProgram) -> None:
    program, losses = trained(transform)
    assert losses[-1] < losses[0]
    start = transform.start(task()[0])
    assert all(not program.tensors[name].equal(tensor) for name, tensor in start.items())


@each
def test_the_same_seed_learns_the_same_bits(transform: ImageProgram) -> None:
    first, again, other = (trained(transform, seed, epochs=2)[0].tensors for seed in (0, 0, 1))
    assert all(first[name].equal(again[name]) for name in first)
    assert any(not first[name].equal(other[name]) for name in first)


@each
def test_a_program_comes_back_from_its_folder_as_it_was(transform: ImageProgram, tmp_path: Path) -> None:
    program = trained(transform, epochs=2)[0]
    loaded = Program.from_pretrained(program.save_pretrained(tmp_path))
    assert loaded.inputs == transform and loaded.tensors.keys() == program.tensors.keys()
    assert all(loaded.tensors[name].equal(tensor) for name, tensor in program.tensors.items())
    assert set(transform.shapes) < set(loaded.tensors)
    images = task(12)[0]
    assert loaded.attach(Small())(images).equal(program.attach(Small())(images))


def test_statistics_follow_the_batches_and_no_optimizer_moves_them() -> None:
    transform = SampleMask(size=16, patch=4)
    heavy = lambda groups: AdamW(groups, weight_decay=0.5)  # noqa: E731
    program = trained(transform, epochs=1, batch_size=30, optimizer=heavy, schedule=lambda progress: 1.0)[0]
    learned = {name: program.tensors[name] for name in transform.shapes}
    before = {name: transform.start(task()[0])[name] for name in transform.observed}
    wanted = transform.observe(task()[0], learned | before)
    assert all(learned[name].allclose(wanted[name], atol=1e-6) for name in transform.observed)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FullImage(size=0),
        lambda: FullImage(size=4, contrast=0.0),
        lambda: FullImage(size=4, interpolation="cubic"),  # type: ignore[arg-type]
        lambda: FullImage(size=4, channels=2),
        lambda: Frame(size=4, inner=4),
        lambda: Frame(size=4),
        lambda: LowRank(size=4, rank=0),
        lambda: LowRank(size=4, rank=5),
        lambda: LowRank(size=4, rank=2.0),  # type: ignore[arg-type]
        lambda: ScaledFrame(size=8),
        lambda: ScaledFrame(size=8, inner=1),
        lambda: ScaledFrame(size=8, inner=9),
        lambda: ScaledFrame(size=8, inner=4, least=0.0),
        lambda: ScaledFrame(size=8, inner=4, least=0.9, most=0.8),
        lambda: ScaledFrame(size=8, inner=4, interpolation="nearest"),
        lambda: SampleMask(size=16, layers=4),
        lambda: SampleMask(size=18),
        lambda: SampleMask(size=8),
        lambda: SampleMask(size=24, patch=3),
        lambda: SampleMask(size=64, patch=32),
        lambda: Decoder(size=18),
        lambda: Decoder(size=16, patch=0),
        lambda: Decoder(size=16, width=0),
        lambda: Decoder(size=16, triggers=-1),
        lambda: Decoder(size=16, epsilon=0.0),
        lambda: Decoder(size=16, epsilon=1.5),
        lambda: Patch(size=8),
        lambda: Patch(size=8, side=0),
        lambda: Patch(size=8, side=4, top=-1),
        lambda: Patch(size=8, side=4, left=5),
        lambda: Patch(size=8, side=4, top=1.5),  # type: ignore[arg-type]
        lambda: RandomAffine(size=4, scale=1.0),
    ],
)
def test_settings_that_cannot_work_are_refused(make: object) -> None:
    with pytest.raises(InputError, match=r"choose|must|give|takes"):
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
