"""A classifier over HTTP, by FastAPI and uvicorn, which the extra ``serve`` brings."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from attacks.errors import InputError

from .service import Formats, Service

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from uvicorn import Server

MOST_BYTES = 32 * 2**20
"""Of a request's body: 40 images of 224 x 224 pixels as base64."""

MOST_CONNECTIONS = 32
"""At once; the next one hears HTTP 503."""


def make_app(service: Service) -> "FastAPI":
    """The service as a FastAPI application: ``POST /``, and ``GET /health``.

    Raises:
        InputError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.concurrency import run_in_threadpool
        from fastapi.responses import JSONResponse
    except ImportError as error:
        raise _missing(error) from error
    app, turn = FastAPI(title="repromark", openapi_url=None), asyncio.Lock()

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse(service.health())

    @app.post("/")
    async def classify(request: Request) -> JSONResponse:
        content = await _body(request)
        if content is None:
            return JSONResponse({"error": f"A request has {MOST_BYTES} bytes at most."}, 413)
        try:
            async with turn:
                answer = await run_in_threadpool(service.answer, content, request.headers.get("content-type", ""))
            return JSONResponse(answer)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        except ArithmeticError as error:
            return JSONResponse({"error": str(error)}, 500)

    return app


async def _body(request: "Request") -> bytes | None:
    """The request's body; None where it is longer than allowed, of which no more than that is read."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            return None
    return bytes(content)


def make_server(service: Service, *, host: str, port: int) -> "tuple[Server, socket.socket]":
    """A server and the socket it shall listen at: ``server.run(sockets=[socket])``.

    Raises:
        InputError: FastAPI or uvicorn is not installed, or the address is taken or not this machine's.
    """
    app = make_app(service)
    try:
        import uvicorn
    except ImportError as error:
        raise _missing(error) from error
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Otherwise an answer, sent in two pieces, waits for the first one's receipt: 40 ms a query.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError) as error:
        raise InputError(f"Nothing can be served at {host}:{port} ({error}): choose another port or host.") from error
    config = uvicorn.Config(app, log_level="warning", limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=60)
    return uvicorn.Server(config), listening


def _missing(error: ImportError) -> InputError:
    return InputError(
        f"Serving needs {error.name}, which is not installed: pip install '.[serve]' in a clone of repromark, or pip "
        "install fastapi uvicorn."
    )


@contextmanager
def serving(model: nn.Module, *, formats: Formats = "all", port: int = 0) -> Iterator[str]:
    """Serve a classifier on this machine alone while the block runs, in a thread.

    Args:
        model: see :class:`Service`.
        formats: likewise.
        port: 0 takes a free one.

    Yields:
        The address.

    Raises:
        InputError: as :func:`make_server`.

    Example:
        >>> import torch
        >>> from attacks.models import load_model
        >>> with serving(nn.Sequential(nn.Flatten(), nn.Linear(12, 5))) as address:
        ...     load_model(address, classes=5)(torch.rand(2, 3, 2, 2)).shape
        torch.Size([2, 5])
    """
    server, listening = make_server(Service(model, formats=formats), host="127.0.0.1", port=port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
