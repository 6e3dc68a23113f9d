"""Asking a classifier over HTTP: the formats, everything that can go wrong on the way, and runs that use it."""

import base64
import copy
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from attacks.engine import Access, Ask, margin, run, untargeted, weights_hash
from attacks.errors import BudgetError, EndpointError, InputError
from attacks.evasion import pgd
from attacks.models import Endpoint, load_model
from attacks.models import transport as transports
from reprog import BayesianPlus, FullImage, Program, fit
from watermark import Mark, OwnerKey, verify

CLASSES = 4
NAMES = ["ant", "bee", "cat", "dog"]


def classify(images: Tensor) -> Tensor:
    """A fixed classifier of images of any size."""
    means = images.double().mean((2, 3))
    weight = torch.linspace(-3, 3, CLASSES * means.shape[1], dtype=torch.float64).sin().view(-1, CLASSES) * 9
    return (means @ weight).float()


def proper(path: str, headers: dict[str, str], body: bytes) -> Any:
    """What a good service answers to either format."""
    if path.endswith("/health"):
        return {"classes": CLASSES, "class_names": NAMES, "formats": ["huggingface"]}
    request = {"inputs": body} if headers["Content-Type"] == "image/png" else json.loads(body)
    inputs, top_k = request["inputs"], request.get("parameters", {}).get("top_k", 2)
    if isinstance(inputs, bytes | str):
        pixels = np.array(Image.open(BytesIO(inputs if isinstance(inputs, bytes) else base64.b64decode(inputs))))
        images = torch.from_numpy(pixels).view(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2) / 255
        best = classify(images)[0].softmax(0).topk(top_k)
        return [
            {"label": NAMES[i], "score": s} for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
    if isinstance(inputs, dict):
        inputs = np.frombuffer(base64.b64decode(inputs["float32"]), "<f4").reshape(inputs["shape"]).tolist()
    return {"logits": classify(torch.tensor(inputs)).tolist()}


class Server(ThreadingHTTPServer):
    """Answers properly, except that each request first uses up one trick, if there is one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tricks: list[Callable[[Handler], None] | None] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hung up


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((dict(self.headers), body))
        trick = self.server.tricks.pop(0) if self.server.tricks else None
        if trick is None:
            self.say(200, json.dumps(proper(self.path, dict(self.headers), body)))
        else:
            trick(self)

    do_GET = do_POST

    def say(self, status: int, text: str | bytes, **headers: str) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def saying(status: int, text: str | bytes = "", **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.say(status, text, **headers)


def silent(handler: Handler) -> None:
    time.sleep(0.6)


def dripping(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b"[")
        time.sleep(0.05)


def hanging_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def half(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"logits": [[1.0,')
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def arrays(server: Server, **settings: Any) -> Endpoint:
    return Endpoint(server.url, **{"format": "base64", "retries": 2, "backoff": 0.01, "timeout": 0.3} | settings)


X = torch.rand(3, 3, 5, 7, generator=torch.Generator().manual_seed(0))


# The formats


@pytest.mark.parametrize("format", ["array", "base64"])
def test_arrays_arrive_bit_for_bit_and_batch_by_batch(server: Server, format: str) -> None:
    endpoint = arrays(server, format=format, batch_size=2)
    assert torch.equal(endpoint(X), torch.cat([classify(X[:2]), classify(X[2:])]))
    assert endpoint.queries == 3 and len(server.requests) == 2
    assert endpoint(X).dtype == torch.float32 and not endpoint(X).requires_grad
    assert torch.equal(copy.deepcopy(endpoint)(X), endpoint(X)) and endpoint.queries == 15


@pytest.mark.parametrize("top_k", [None, 1, 3, 4])
def test_labels_and_scores_become_log_probabilities(server: Server, top_k: int | None) -> None:
    endpoint = Endpoint(server.url, class_names=NAMES, top_k=top_k)
    seen = (X * 255).round() / 255
    shown = Access(nn.Module(), level="top_k", top_k=top_k or 2)
    shown.model.forward = classify
    assert torch.allclose(endpoint(X).exp(), shown(seen), atol=1e-6)
    assert endpoint.queries == len(server.requests) == 3  # an image each
    kinds = {headers["Content-Type"] for headers, _ in server.requests}
    assert kinds == {"image/png" if top_k is None else "application/json"}


def test_gray_images_are_gray_files(server: Server) -> None:
    Endpoint(server.url, class_names=NAMES)(X[:1, :1])
    image = Image.open(BytesIO(server.requests[0][1]))
    assert image.mode == "L" and image.size == (7, 5)
    assert np.array_equal(np.array(image), (X[0, 0] * 255).round().numpy().astype(np.uint8))


def test_labels_without_names_are_numbers(server: Server) -> None:
    def numbered(first: str) -> Callable[[Handler], None]:
        return saying(200, json.dumps([{"label": first, "score": 0.7}]))

    endpoint = Endpoint(server.url, classes=4)
    server.tricks = [numbered("LABEL_3"), numbered("1"), numbered("LABEL_4")]
    assert torch.allclose(endpoint(X[:1]).exp(), torch.tensor([[0.1, 0.1, 0.1, 0.7]]))
    assert endpoint(X[:1]).argmax() == 1
    with pytest.raises(EndpointError, match="gave the label 'LABEL_4', not LABEL_0 to LABEL_3"):
        endpoint(X[:1])


def test_what_is_not_listed_gets_no_more_than_what_is(server: Server) -> None:
    server.tricks = [saying(200, '[{"label": "ant", "score": 0.02}, {"label": "bee", "score": 1e-9}]')]
    scores = Endpoint(server.url, class_names=NAMES)(X[:1]).exp()  # as of a sigmoid: they do not sum to 1
    assert torch.allclose(scores, torch.tensor([[0.02, 1e-9, 1e-9, 1e-9]]))
    server.tricks = [saying(200, '[{"label": "ant", "score": 1}, {"label": "bee", "score": 0}]')]
    assert Endpoint(server.url, class_names=NAMES)(X[:1]).isfinite().all()


# What goes wrong and is tried again


PASSING = {
    "time-out": (silent, 2),
    "dripping": (dripping, 2),
    "hanging up": (hanging_up, 2),
    "half an answer": (half, 2),
    "truncated JSON": (saying(200, '{"logits": [[1.0, '), 2),
    "HTML": (saying(200, "<html>soon back</html>"), 2),
    "500": (saying(500, "oh"), 2),
    "503": (saying(503, '{"error": "loading"}'), 2),
    "429": (saying(429, "slow down"), 1),
    "429 with a time": (saying(429, "slow down", Retry_After="0.05"), 1),
    "503 with a date": (saying(503, "", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 2),
    "503 with nonsense": (saying(503, "", Retry_After="soon"), 2),
}


@pytest.mark.parametrize("case", PASSING)
def test_what_may_pass_is_tried_again_and_counted_where_it_may_have_been_answered(server: Server, case: str) -> None:
    trick, cost = PASSING[case]
    server.tricks = [trick]
    endpoint = arrays(server)
    access = Access(endpoint, level="scores")
    assert torch.equal(access(X), classify(X)) and len(server.requests) == 2
    assert endpoint.queries == access.queries == 3 * cost


@pytest.mark.parametrize("case", PASSING)
def test_what_does_not_pass_ends_with_a_sentence_that_says_what_was_spent(server: Server, case: str) -> None:
    trick, cost = PASSING[case]
    server.tricks = [None, *[trick] * 3]
    endpoint = arrays(server)
    access = Access(endpoint, level="scores", cache=True)
    access(X[:1])
    spent = 1 + (3 * 2 if cost == 2 else 0)
    with pytest.raises(EndpointError, match=f"Given up after 3 attempts; it has cost {spent} queries so far"):
        access(X[1:])
    assert endpoint.queries == spent and len(server.requests) == 4
    assert access.queries == max(spent, 3)  # it had set two aside before they went out


def test_nobody_there_costs_nothing(server: Server) -> None:
    url = server.url
    server.server_close()
    endpoint = Endpoint(url, format="array", retries=1, backoff=0.01)
    with pytest.raises(EndpointError, match="could not be reached .*after 2 attempts; it has cost 0 queries"):
        endpoint(X)


def test_waits_grow_and_a_service_that_says_how_long_is_obeyed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transports.time, "sleep", waits.append)
    server.tricks = [saying(503)] * 4 + [saying(429, "", Retry_After="7")]
    state = random.getstate()
    arrays(server, retries=5, backoff=1.0)(X)
    assert random.getstate() == state  # no seed of the run is used up
    assert waits[4] == 7.0 and len(waits) == 5
    for wait, middle in zip(waits[:4], (1, 2, 4, 8), strict=True):
        assert 0.5 * middle <= wait <= 1.5 * middle
    server.tricks = [saying(429, "", Retry_After="3600")]
    with pytest.raises(EndpointError, match="asks to wait for 3600 seconds"):
        arrays(server, retries=5)(X)
    assert len(waits) == 5


def test_what_is_sent_again_stays_within_the_budget(server: Server) -> None:
    server.tricks = [saying(500), saying(500)]
    endpoint = arrays(server)
    access = Access(endpoint, level="label", budget=8)
    with pytest.raises(BudgetError, match="3 more queries would make 9, but the budget is 8"):
        access(X)
    assert access.queries == endpoint.queries == 6 and len(server.requests) == 2


# What goes wrong and is refused at once


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"logits": [[1.0, float("nan"), 0.0, 0.0]] * 3}, "NaN, infinite or no numbers"),
        ({"logits": [[1.0, 1e999, 0.0, 0.0]] * 3}, "NaN, infinite or no numbers"),
        ({"logits": [[1.0, 1e300, 0.0, 0.0]] * 3}, "NaN, infinite or no numbers"),
        ({"logits": [[1.0, 10**400, 0.0, 0.0]] * 3}, "NaN, infinite or no numbers"),
        ({"logits": [["1", "2", "3", "4"]] * 3}, "NaN, infinite or no numbers"),
        ({"logits": [[None, 1, 2, 3]] * 3}, "NaN, infinite or no numbers"),
        ({"logits": [[[1], [2], [3], [4]]] * 3}, "NaN, infinite or no numbers"),
        ({"logits": [[1.0] * 4] * 2}, "gave 2 rows of 4 logits to 3 samples, where 3 rows of 4 were due"),
        ({"logits": [[1.0] * 5] * 3}, "gave 3 rows of 5 logits"),
        ({"logits": [[1.0] * 4, [1.0] * 4, [1.0] * 3]}, "gave 3 rows of 3 or 4 logits"),
        ({"logits": [1.0, 2.0, 3.0]}, "but {'logits': "),
        ({"logits": []}, "but {'logits': "),
        ({"scores": [[1.0]]}, "but {'scores': "),
        ([[1.0] * 4] * 3, "gave no"),
        (None, "gave no"),
    ],
)
def test_an_answer_that_is_no_logits_is_refused(server: Server, answer: Any, sentence: str) -> None:
    server.tricks = [saying(200, json.dumps(answer))]
    endpoint = arrays(server, classes=4)
    with pytest.raises(EndpointError, match="it has cost 3 queries") as caught:
        endpoint(X)
    assert sentence in str(caught.value) and len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([], "gave no list of labels and scores"),
        ({"error": "what"}, "gave no list of labels and scores, but {'error': 'what'}"),
        ([[{"label": "ant", "score": 1.0}]], "gave no list"),
        ([{"label": "ant", "score": float("nan")}], "the score nan, which is no probability"),
        ([{"label": "ant", "score": 3.5}], "the score 3.5, which is no probability"),
        ([{"label": "ant", "score": -0.5}], "is no probability"),
        ([{"label": "ant", "score": "1"}], "is no probability"),
        ([{"label": "ant", "score": True}], "is no probability"),
        ([{"label": "ant"}], "is no probability"),
        ([{"label": "emu", "score": 1.0}], "gave the label 'emu', not one of the class names"),
        ([{"label": ["ant"], "score": 1.0}], "not one of the class names"),
        ([{"label": "ant", "score": 0.5}] * 2, "gave the label 'ant' twice"),
    ],
)
def test_an_answer_that_is_no_labels_and_scores_is_refused(server: Server, answer: Any, sentence: str) -> None:
    server.tricks = [saying(200, json.dumps(answer))]
    with pytest.raises(EndpointError, match="it has cost 1 queries") as caught:
        Endpoint(server.url, class_names=NAMES)(X)
    assert sentence in str(caught.value) and len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_told_with_the_beginning_of_its_reason(server: Server, status: int) -> None:
    server.tricks = [saying(status, "no\x1b[31m " + "x" * 500)]
    endpoint = arrays(server)
    with pytest.raises(
        EndpointError, match=f"refused with HTTP {status}: 'no .31m x+'. Given up; it has cost 0"
    ) as caught:
        endpoint(X)
    assert len(server.requests) == 1 and "\x1b" not in str(caught.value) and str(caught.value).count("x") < 220


def test_redirects_are_not_followed(server: Server) -> None:
    with Server() as other:
        server.tricks = [saying(307, "", Location=f"{other.url}/x?key=1")]
        with pytest.raises(EndpointError, match=f"redirects to '{other.url}/x' .HTTP 307., which is not followed"):
            arrays(server)(X)
        assert not other.requests and len(server.requests) == 1


def test_an_answer_without_end_is_not_read_to_its_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "MOST_BYTES", 10_000)
    server.tricks = [saying(200, b"[" * 5_000_000)]
    with pytest.raises(EndpointError, match="gave an answer of more than 10000 bytes"):
        arrays(server, timeout=5)(X)
    server.tricks = [saying(200, "[" * 9_999)]  # deeper than a parser goes
    with pytest.raises(EndpointError, match="no JSON"):
        arrays(server, timeout=5, retries=0)(X)


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "ftp://x"}, "is no address"),
        ({"url": "http://"}, "is no address"),
        ({"url": "x"}, "is no address"),
        ({"url": "http://h:99999"}, "is no address"),
        ({"url": "https://me:secret@h/x?key=secret"}, "https://h/x is no address"),
        ({"format": "xml"}, "format='xml' is not known"),
        ({"batch_size": 0}, "at least 1"),
        ({"top_k": 0}, "at least 1"),
        ({"timeout": 0.0}, "timeout=0.0"),
        ({"retries": -1}, "retries=-1"),
        ({"class_names": ["a", "a", "b"]}, "of its own"),
        ({"class_names": ["a"], "classes": None}, "of its own"),
        ({"class_names": ["a", "b"], "classes": 3}, "of its own"),
        ({"classes": 1}, "at least two"),
        ({"classes": None}, "give class_names"),
        ({"headers": {"A": "$NOT_SET"}}, "is not set"),
        ({"headers": {"A": "a\nb"}}, "does not allow"),
        ({"url": "http://h", "headers": {"A": "b"}}, "would carry the headers unencrypted"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        Endpoint(**{"url": "http://localhost:1", "classes": 3} | settings)
    assert "secret" not in str(caught.value)


def test_plain_http_to_another_machine_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="Queries to http://example.org and their answers travel unencrypted"):
        Endpoint("http://example.org/x", classes=3)


def test_images_that_cannot_be_sent_are_refused(server: Server) -> None:
    endpoint = Endpoint(server.url, class_names=NAMES)
    for wrong in (X[0], X[:, :2], X * 255, X - 0.5, X[:0], X.log()):
        with pytest.raises(InputError):
            endpoint(wrong)
    with pytest.raises(InputError, match="shows no gradients.* These were not sent"):
        endpoint(X.clone().requires_grad_())
    assert not server.requests
    with pytest.raises(InputError, match="shows no gradients"):
        pgd(load_model(endpoint), X, torch.zeros(3, dtype=torch.int64), epsilon=0.1)


def test_a_token_comes_from_the_environment_and_is_never_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "hf_abcdefgh\n")
    endpoint = arrays(server, headers={"Authorization": "Bearer $A_TOKEN"})
    endpoint(X)
    assert server.requests[0][0]["Authorization"] == "Bearer hf_abcdefgh"
    server.tricks = [saying(401, "who is hf_abcdefgh, or Bearer hf_abcdefgh?")]
    with pytest.raises(EndpointError) as caught:
        endpoint(X)
    model = load_model(endpoint)
    assert "hf_abc" not in f"{caught.value} {model!r} {model.describe()}" and "who is ***" in str(caught.value)


def test_a_proxy_is_not_asked_for_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert torch.equal(arrays(server)(X), classify(X))


# As a model


def test_load_model_asks_a_service_what_it_is(server: Server) -> None:
    model = load_model(server.url, image_size=6)
    assert (model.name, model.source, model.classes, model.class_names) == (server.url, server.url, 4, NAMES)
    assert model(X).shape == (3, 4)
    assert Image.open(BytesIO(server.requests[-1][1])).size == (6, 6)
    assert load_model(server.url, classes=5).classes == 5
    server.tricks = [saying(404, "Not Found")]
    with pytest.raises(EndpointError, match="HTTP 404.*load_model.Endpoint.url, class_names=") as caught:
        load_model(server.url)
    for strange in ("[]", "{}", '{"classes": 3, "class_names": 5, "formats": ["array"]}', '{"formats": []}'):
        server.tricks = [saying(200, strange)]
        with pytest.raises(InputError, match="no proper answer at /health"):
            load_model(server.url)
    assert caught.value.__cause__ is not None


def test_endpoints_are_told_apart_by_what_they_would_answer(server: Server) -> None:
    same = {"class_names": NAMES, "top_k": 2}
    hashes = {
        weights_hash(load_model(Endpoint(url, **same | other)))
        for url, other in (
            (server.url, {}), (server.url, {"timeout": 9.0}), (server.url, {"class_names": NAMES[::-1]}),
            (server.url, {"top_k": 3}), (server.url + "/x", {}),
        )
    }  # fmt: skip
    assert len(hashes) == 4


def search(x: Tensor, perturbation: Any, *, generator: torch.Generator, epsilon: float, steps: int) -> Iterator[Ask]:
    """Random corners of the ball around the best point so far."""
    p = perturbation.start(x)
    loss = (yield Ask(p, untargeted(margin))).loss
    for _ in range(steps):
        signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
        q = perturbation.clip(x, signs * epsilon)
        heard = (yield Ask(q, untargeted(margin))).loss
        p, loss = torch.where((heard < loss)[:, None, None, None], q, p), torch.minimum(heard, loss)


def attack(access: nn.Module, steps: int = 8) -> Any:
    def method(*subject: Any, **settings: Any) -> Any:
        return search(*subject, **settings, steps=steps)

    images = (X * 255).round() / 255
    return run(method, access, images, classify(images).argmax(1), norm="linf", epsilon=0.3, stop=False, seed=3)


def test_a_black_box_attack_runs_on_an_endpoint(server: Server) -> None:
    access = Access(load_model(server.url), level="top_k", top_k=2, budget=20, price=0.01, eight_bit=True)
    result = attack(access)
    assert access.queries == len(server.requests) - 1 == 18 and access.cost == pytest.approx(0.18)
    assert int(result.queries.sum()) == 18  # a seventh step would have gone beyond the budget
    assert torch.equal(attack(Access(load_model(server.url), level="top_k", top_k=2), steps=5).success, result.success)


RESUMED = """
import sys
sys.path.insert(0, sys.argv[1])
from test_models_endpoint import *
attack(Access(load_model(sys.argv[2]), level="scores", trace=sys.argv[3]))
"""


def test_a_run_that_is_killed_goes_on_from_its_trace(server: Server, tmp_path: Any) -> None:
    expected = attack(Access(load_model(server.url), level="scores", cache=True))
    whole, server.requests = len(server.requests), []

    def kill(handler: Handler) -> None:
        os.kill(child.pid, signal.SIGKILL)

    server.tricks = [None] * 15 + [kill]
    words = [os.path.dirname(__file__), server.url, str(tmp_path / "trace")]
    child = subprocess.Popen([sys.executable, "-c", RESUMED, *words])
    assert child.wait(120) == -signal.SIGKILL and len(server.requests) == 16
    access = Access(load_model(server.url), level="scores", trace=tmp_path / "trace")
    assert access.queries == 15  # fourteen answered, one under way; the first request asked what it is
    result = attack(access)
    assert len(server.requests) - 16 == whole - 14  # that one again, and the rest
    for name in ("adversarial", "success", "distance", "forward_passes"):
        assert torch.equal(getattr(result, name), getattr(expected, name))


def test_a_verification_and_a_program_run_on_an_endpoint(server: Server) -> None:
    mark = Mark(family="shapes", n=12, classes=CLASSES, shape=(3, 8, 8), nonce="example")
    key = OwnerKey(bytes(32))
    model = load_model(server.url)
    local = verify(lambda images: classify(images).argmax(1).tolist(), mark, key, alpha=0.01, wrong_keys=1)
    access = Access(model, level="label", budget=24)
    remote = verify(access, mark, key, alpha=0.01, wrong_keys=1, budget=24)
    by_function = verify(lambda images: model(images).argmax(1), mark, key, alpha=0.01, wrong_keys=1)
    assert remote.matches == local.matches == by_function.matches and access.queries == remote.queries == 24

    program = Program(FullImage(size=8), BayesianPlus(), classes=2)
    history = fit(program, Access(model, level="scores"), X, torch.tensor([0, 1, 0]), epochs=0, progress=False)
    assert history.forward_passes == 3 and program.attach(Access(model, level="scores"))(X).shape == (3, 2)
