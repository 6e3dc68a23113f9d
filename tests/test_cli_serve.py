"""A classifier as an HTTP service: what it answers, what it refuses, and the command that starts it."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

from attacks.engine import Access
from attacks.errors import EndpointError, InputError
from attacks.models import Endpoint, load_model
from reprog import FullImage, Linear, Program, fit
from tasks import cli, serving
from tasks.commands.serve import _classifier
from tasks.service import Service

JSON = "application/json"
X = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def tiny(classes: int = 7) -> nn.Module:
    torch.manual_seed(0)
    return load_model(nn.Sequential(nn.Flatten(), nn.Linear(108, classes)), image_size=6, classes=classes, name="tiny")


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with serving.serving(tiny()) as url:
        yield url


def png(image: Tensor, mode: str = "RGB") -> bytes:
    file = BytesIO()
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).convert(mode).save(file, "png")
    return file.getvalue()


def pictured(parameters: Any) -> bytes:
    return json.dumps({"inputs": base64.b64encode(png(X[0])).decode(), "parameters": parameters}).encode()


def post(url: str, content: Any, kind: str = JSON) -> tuple[int, Any]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = httpx2.post(url, content=body, headers={"Content-Type": kind}, trust_env=False)
    return answer.status_code, answer.json()


def test_health_says_what_it_is(place: str) -> None:
    told = httpx2.get(f"{place}/health", trust_env=False).json()
    assert told == {
        "status": "ok", "model": "tiny", "classes": 7, "class_names": None,
        "formats": ["huggingface", "base64", "array"],
    }  # fmt: skip


def test_arrays_are_answered_with_the_models_own_bits(place: str) -> None:
    for format in ("array", "base64"):
        endpoint = Endpoint(place, format=format)
        assert torch.equal(endpoint(X), tiny()(X).detach())


def test_a_picture_is_answered_with_its_best_labels(place: str) -> None:
    status, answer = post(place, png(X[0]), "image/png")
    best = tiny()((X[:1] * 255).round() / 255)[0].softmax(0).topk(5)
    assert status == 200 and [one["label"] for one in answer] == [f"LABEL_{i}" for i in best.indices.tolist()]
    assert [one["score"] for one in answer] == pytest.approx(best.values.tolist())
    text = base64.b64encode(png(X[0])).decode()
    assert post(place, {"inputs": text}) == (200, answer)
    assert post(place, {"inputs": text, "parameters": {"top_k": 2}}) == (200, answer[:2])
    assert post(place, {"inputs": text, "parameters": None}) == (200, answer)
    assert len(post(place, {"inputs": text, "parameters": {"top_k": 99, "function_to_apply": "softmax"}})[1]) == 7


def test_an_endpoint_hears_everything_it_asks_for(place: str) -> None:
    model = load_model(Endpoint(place, classes=7, top_k=7))
    seen = (X * 255).round() / 255
    assert torch.allclose(model(X).exp(), tiny()(seen).softmax(1), atol=1e-6)
    assert torch.equal(load_model(place)(X).argmax(1), tiny()(seen).argmax(1))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_kind_of_picture_is_read_as_the_model_wants_it(place: str, mode: str) -> None:
    assert post(place, png(X[0], mode), "image/png")[0] == 200
    gray = Service(load_model(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), mean=[0.0], std=[1.0]))
    assert len(gray.answer(png(X[0], mode), "image/png")) == 2


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (b"{", JSON, "is no JSON"),
        (b"[" * 99999, JSON, "is no JSON"),
        (b"[]", JSON, "an object with"),
        (b"{}", JSON, "an object with"),
        (b'{"inputs": "%%"}', JSON, "no base64"),
        (b'{"inputs": "AAAA"}', JSON, "no PNG"),
        (b"GIF89a", "image/gif", "no PNG"),
        (b"", "image/png", "no PNG"),
        (png(X[0])[:80], "image/png", "no PNG"),
        (b'{"inputs": 5}', JSON, "send at least one sample"),
        (b'{"inputs": null}', JSON, "are no array"),
        (b'{"inputs": []}', JSON, "send at least one sample"),
        (b'{"inputs": [[1.0], [1.0, 2.0]]}', JSON, "are no array"),
        (b'{"inputs": [["a"]]}', JSON, "are no array"),
        (b'{"inputs": [[NaN]]}', JSON, "all finite"),
        (b'{"inputs": [[0.5]]}', JSON, "takes a floating-point tensor"),
        (b'{"inputs": {"shape": [1, 3, 6, 6], "float32": "AAAA"}}', JSON, "are no array"),
        (b'{"inputs": {"shape": "x", "float32": "AAAAAA=="}}', JSON, "are no array"),
        (b'{"inputs": {"shape": [1, 1]}}', JSON, "are no array"),
        (json.dumps({"inputs": torch.zeros(257, 3, 1, 1).tolist()}).encode(), JSON, "one request takes 256"),
        (json.dumps({"inputs": (X * 255).tolist()}).encode(), JSON, "must lie in"),
        (pictured({"top_k": 0}), JSON, "top_k"),
        (pictured(3), JSON, "top_k"),
        (pictured({"function_to_apply": "none"}), JSON, "softmax"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_with_a_sentence(
    place: str, content: bytes, kind: str, sentence: str
) -> None:
    status, answer = post(place, content, kind)
    assert status == 400 and sentence in answer["error"]


def test_bodies_and_pictures_that_are_too_large_are_not_unpacked(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = BytesIO()
    Image.fromarray(np.zeros((4097, 4097), np.uint8)).save(file, "png")
    status, answer = post(place, file.getvalue(), "image/png")
    assert status == 400 and "at most 16777216" in answer["error"]
    monkeypatch.setattr(serving, "MOST_BYTES", 1000)
    assert post(place, b"x" * 1001)[0] == 413
    with pytest.raises(EndpointError, match="refused with HTTP 413: .*A request has 1000 bytes at most"):
        Endpoint(place, format="array")(torch.rand(2, 3, 6, 6))
    assert Endpoint(place, format="base64")(torch.rand(1, 3, 3, 3)).shape == (1, 7)


def test_only_the_chosen_format_is_answered() -> None:
    pictures, arrays = Service(tiny(), formats="huggingface"), Service(tiny(), formats="array")
    array = json.dumps({"inputs": X.tolist()}).encode()
    assert pictures.health()["formats"] == ["huggingface"] and arrays.health()["formats"] == ["base64", "array"]
    assert pictures.answer(png(X[0]), "image/png") and arrays.answer(array, JSON + "; charset=utf-8")
    with pytest.raises(InputError, match="takes images alone"):
        pictures.answer(array, JSON)
    with pytest.raises(InputError, match="takes arrays alone"):
        arrays.answer(png(X[0]), "image/png")
    assert (pictures.queries, arrays.queries) == (1, 3)
    with serving.serving(tiny(), formats="array") as url:
        assert torch.equal(load_model(url)(X), tiny()(X).detach())


def test_a_model_that_answers_nan_is_the_services_fault() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 2), torch.nan)

    with serving.serving(Broken()) as url:
        assert post(url, {"inputs": [[1.0]]}) == (500, {"error": "the model answered with NaN or infinity"})
        with pytest.raises(EndpointError, match="HTTP 500: .*NaN.* after 2 attempts; it has cost 2 queries"):
            Endpoint(url, format="array", retries=1, backoff=0.01)(torch.ones(1, 1))


def test_many_may_ask_at_once(place: str) -> None:
    expected = tiny()(X).detach()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: Endpoint(place, format="base64")(X), range(24)))
    assert all(torch.equal(answer, expected) for answer in answers)


def test_names_that_are_not_all_different_are_numbers() -> None:
    model = tiny(3)
    model.class_names = ["crane", "crane", "emu"]
    assert Service(model).health()["class_names"] is None
    assert {one["label"] for one in Service(model).answer(png(X[0]), "image/png")} == {"LABEL_0", "LABEL_1", "LABEL_2"}
    model.class_names = ["crane", "other crane", "emu"]
    with serving.serving(model) as url:
        assert load_model(url).class_names == ["crane", "other crane", "emu"]


# The command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("things") / "model"
    torch.manual_seed(0)
    names = dict(enumerate(["ant", "bee", "cat"]))
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", id2label=names)
    ResNetForImageClassification(config).save_pretrained(made)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(made)
    return made


def test_the_command_serves_until_it_is_interrupted(folder: Path, tmp_path: Path) -> None:
    words = ["-m", "tasks", "serve", str(folder), "--port", "0", "--json", "-"]
    child = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parent.parent, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert child.stderr is not None
        line = next(line for line in child.stderr if " answers at " in line)
        url = line.split(" answers at ")[1].split(",")[0]
        access = Access(load_model(url), level="label", cache=True, trace=tmp_path / "trace")
        assert torch.equal(access.labels(X), load_model(folder)((X * 255).round() / 255).argmax(1))
        assert load_model(url).class_names == ["ant", "bee", "cat"]
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0 and json.loads(out)["queries"] == 3 and json.loads(out)["command"] == "serve"


def test_a_reprogrammed_model_is_served_with_its_own_classes(folder: Path, tmp_path: Path) -> None:
    program = Program(FullImage(size=16), Linear(), classes=2, class_names=("no", "yes"))
    fit(program, load_model(folder), X[:, :1], torch.tensor([0, 1, 0]), epochs=1, progress=False)
    program.save_pretrained(tmp_path / "program")
    model = _classifier(str(folder), str(tmp_path / "program"), None, "cpu")
    with serving.serving(model) as url:
        remote = load_model(url, mean=[0.0], std=[1.0])
        assert remote.class_names == ["no", "yes"]
        assert torch.allclose(remote(X[:, :1]), model(X[:, :1]), atol=1e-5)  # by arrays, not by 8-bit pictures
    with pytest.raises(InputError, match="--image-size does not go with"):
        _classifier(str(folder), str(tmp_path / "program"), 32, "cpu")
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=3)
    torch.manual_seed(1)
    ResNetForImageClassification(config).save_pretrained(tmp_path / "other")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="is not the same"):
        _classifier(str(tmp_path / "other"), str(tmp_path / "program"), None, "cpu")


def test_an_address_that_is_taken_is_refused(folder: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", str(folder), "--port", place.rpartition(":")[2]]) == 2
    assert "choose another port" in capsys.readouterr().err
    for where in (["--port", "99999"], ["--host", "192.0.2.1"]):
        assert cli.main(["serve", str(folder), *where]) == 2
        assert "Nothing can be served at" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["fastapi", "uvicorn"])
def test_without_the_extra_a_sentence_says_what_to_install(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, lost, None)
    with pytest.raises(InputError, match=rf"Serving needs {lost}.*pip install '\.\[serve\]'"):
        serving.make_server(Service(tiny()), host="127.0.0.1", port=0)


def test_a_verification_by_its_address_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from watermark import Mark

    monkeypatch.chdir(tmp_path)
    assert cli.main(["watermark", "keygen"]) == 0
    Mark(family="shapes", n=20, classes=3, shape=(3, 16, 16)).save_pretrained(tmp_path / "mark")
    with serving.serving(load_model(folder)) as url:
        words = ["--mark", "mark", "--key", "owner.key", "--alpha", "0.001", "--wrong-keys", "1", "--json"]
        assert cli.main(["watermark", "verify", "--model", url, *words, "remote.json"]) == 1
    assert cli.main(["watermark", "verify", "--model", str(folder), *words, "local.json"]) == 1
    remote, local = (json.loads(Path(name).read_text()) for name in ("remote.json", "local.json"))
    assert remote["matches"] == local["matches"] and remote["queries"] == 40
