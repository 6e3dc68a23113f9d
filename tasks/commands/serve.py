"""``repromark serve``."""

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from attacks.errors import InputError

from ..progress import say
from .outcome import Outcome

if TYPE_CHECKING:
    from torch import nn


def serve(
    model: str,
    *,
    program: str | None = None,
    format: Literal["all", "huggingface", "array"] = "all",
    host: str = "127.0.0.1",
    port: int = 8000,
    image_size: int | None = None,
    device: str = "cpu",
) -> Outcome:
    """Serve a classifier over HTTP until Ctrl-C, for attacks, programs and verifications that know only its address.

    Args:
        model: a Hugging Face id, a folder that save_pretrained wrote, or efficientnet-lite0.
        program: folder of a program that was trained on this model: the reprogrammed model is served.
        format: what is answered: an image with labels and scores (huggingface), arrays with logits (array), or all.
        host: address to listen at; anybody who reaches it can ask, so other machines only where that is wanted.
        port: to listen at; 0 takes a free one.
        image_size: side of the model's input in pixels; by default its own, or the one the program was trained with.
        device: cpu, cuda, mps or auto.

    Returns:
        How many samples were answered.
    """
    from ..service import Service
    from ..serving import make_server

    service = Service(_classifier(model, program, image_size, device), formats=format)
    server, listening = make_server(service, host=host, port=port)
    place = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    say(f"{service.health()['model']} answers at {place}, formats {', '.join(service.formats)}; Ctrl-C ends it.")
    with suppress(KeyboardInterrupt):  # raised once more after the server has come to its end
        server.run(sockets=[listening])
    return Outcome({"queries": service.queries, "address": place}, f"{service.queries} samples were answered.")


def _classifier(model: str, program: str | None, image_size: int | None, device: str) -> "nn.Module":
    from attacks.models import load_model
    from reprog import Program

    if program is None:
        return load_model(model, image_size=image_size, device=device)
    if image_size is not None:
        raise InputError("--image-size does not go with --program, which has its own: leave it out.")
    loaded = Program.from_pretrained(program)
    size = None if loaded.backbone is None else loaded.backbone.input_size
    return loaded.attach(load_model(model, image_size=size, device=device))
