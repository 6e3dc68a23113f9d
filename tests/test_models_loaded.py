import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from attacks.errors import InputError
from attacks.models import LoadedModel, batched_logits, load_model


def linear(classes=5, side=8, channels=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes))


class Answers(nn.Module):
    """Answers every batch with what a function makes of it."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images)


def test_a_module_is_wrapped_with_mean_and_std():
    module = linear()
    model = load_model(module, mean=[0.5] * 3, std=[0.25] * 3, name="mine")
    images = torch.rand(4, 3, 8, 8)
    assert torch.allclose(model(images), module((images - 0.5) / 0.25), atol=1e-6)
    assert (model.name, model.classes, model.input_size) == ("mine", 5, None)
    assert model.network is module


def test_a_loaded_model_comes_back_as_it_is_and_module_flags_stay():
    module = linear().requires_grad_(False)
    module[1].bias.requires_grad_(True)
    model = load_model(module)
    assert load_model(model) is model
    assert not model.training and not module.training
    assert [weight.requires_grad for weight in model.parameters()] == [False, True]


def test_preprocessing_adds_nothing_to_the_state_dict():
    assert set(load_model(linear(), mean=[0.5] * 3).state_dict()) == {"network.1.weight", "network.1.bias"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"image_size": 8}, "image_size="), ({"classes": 5}, "classes="), ({"revision": "main"}, "revision=")],
)
def test_a_loaded_model_takes_no_further_arguments(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        load_model(load_model(linear()), **arguments)


@pytest.mark.parametrize("size", [0, -3, (8,), (8, 8, 8), 8.5, (8, "8")])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match="image_size"):
        load_model(linear(), image_size=size if not isinstance(size, float) else (size, size))


def test_other_sources_and_devices_are_refused():
    with pytest.raises(InputError, match="from a dict"):
        load_model({"weights": 1})
    for name in ("resnet18", "no/such/folder", "./nowhere", "efficientnet-lite9"):
        with pytest.raises(InputError, match="efficientnet-lite0"):
            load_model(name)
    with pytest.raises(InputError, match=r"'tpu-9' is not there.*cpu"):
        load_model(linear(), device="tpu-9")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"'cuda' is not there.*cpu"):
        load_model(linear(), device="cuda")


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([[0.0]], "list but must be"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide by 255"),
        (torch.zeros(3, 8, 8), r"images\[None\]"),
        (torch.zeros(1, 8, 8, 3), "permute"),
        (torch.zeros(1, 1, 8, 8), r"mean=\[0.0\]"),
        (torch.zeros(0, 3, 8, 8), "none of them 0"),
        (torch.full((1, 3, 8, 8), 255.0), r"\[255, 255\].*divide 8-bit"),
        (torch.full((1, 3, 8, 8), -0.001), "-0.001"),
        (torch.full((1, 3, 8, 8), 1.00001), r"must lie in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), "NaN"),
        (torch.full((1, 3, 8, 8), float("inf")), "inf"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "on meta"),
    ],
)
def test_unusable_images_are_refused(images, sentence):
    with pytest.raises(InputError, match=sentence):
        load_model(linear())(images)


def test_the_range_is_checked_in_every_forward_on_the_cpu_with_a_tolerance():
    model = load_model(linear())
    model(torch.full((1, 3, 8, 8), 1 + 9e-7))
    with pytest.raises(InputError, match="must lie in"):
        model(torch.full((1, 3, 8, 8), 1.1))


@pytest.mark.parametrize(("device", "looks"), [("cpu", 2), ("meta", 1)])  # "meta" stands in for an accelerator
def test_on_an_accelerator_the_range_is_checked_once(monkeypatch, device, looks):
    seen = []
    monkeypatch.setattr("attacks.models.loaded.check_range", seen.append)
    model = load_model(linear(), device=device)
    for _ in range(2):
        model(torch.zeros(1, 3, 8, 8, device=device))
    assert len(seen) == looks


def test_a_grey_level_model_takes_one_channel():
    assert load_model(linear(channels=1), mean=[0.0], std=[1.0])(torch.rand(2, 1, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: x, r"shape \(2, 3, 8, 8\)"),
        (lambda x: (x.flatten(1), x), "a tuple"),
        (lambda x: x.flatten(1)[:1], r"shape \(1, 192\)"),
        (lambda x: SimpleNamespace(last_hidden_state=x), "a SimpleNamespace"),
        (lambda x: x.flatten(1), "classes=7"),
    ],
)
def test_a_module_that_gives_no_logits_is_refused_at_its_first_forward(answer, sentence):
    with pytest.raises(InputError, match=sentence):
        load_model(Answers(answer), classes=7)(torch.rand(2, 3, 8, 8))


def test_outputs_with_logits_are_unwrapped():
    model = load_model(Answers(lambda x: SimpleNamespace(logits=x.flatten(1)[:, :4])))
    with pytest.raises(InputError, match="not known before its first batch"):
        _ = model.classes
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    assert model.classes == 4


def test_float64_images_run_on_float32_weights_and_the_reverse():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert load_model(linear())(images).dtype == torch.float32
    assert load_model(linear().double())(images.float()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks_give_float32_logits(dtype):
    module, images = linear().to(dtype), torch.rand(2, 3, 8, 8)
    assert load_model(module)(images).dtype == torch.float32
    logits = batched_logits(module, images.to(dtype))
    assert logits.dtype == torch.float32 and logits.equal(module(images.to(dtype)).float())


def test_gradients_through_resize_crop_and_normalisation_match_finite_differences():
    model = load_model(linear(classes=3, side=4).double(), image_size=4, mean=[0.4] * 3, std=[0.2] * 3)
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(1, 3, 7, 5, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(model, images.requires_grad_(True))


def test_describe_is_json_and_names_what_loads_it_again():
    description = load_model(linear(), image_size=8, classes=5, name="mine").describe()
    assert json.loads(json.dumps(description)) | {"preprocessing": None} == {
        "id": "torch:Sequential",
        "name": "mine",
        "revision": None,
        "classes": 5,
        "input_size": [8, 8],
        "preprocessing": None,
    }


def test_batched_logits_equal_one_forward_in_evaluation_mode_and_restore_the_mode():
    module = nn.Sequential(linear(), nn.Dropout(0.5), nn.BatchNorm1d(5)).train()
    images = torch.rand(7, 3, 8, 8)
    logits = batched_logits(module, images, batch_size=3)
    assert module.training and not logits.requires_grad
    assert torch.allclose(logits, module.eval()(images), atol=1e-6)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 4), (3, 0)])
def test_batched_logits_refuse_nothing_to_do(n, batch_size):
    with pytest.raises(InputError, match="at least 1"):
        batched_logits(linear(), torch.zeros(n, 3, 8, 8), batch_size=batch_size)


def test_the_constructor_does_not_share_its_default_preprocessing():
    one, two = (LoadedModel(linear(), name="a", source="a") for _ in range(2))
    assert one.preprocessing is not two.preprocessing
