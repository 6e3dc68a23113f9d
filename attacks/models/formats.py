"""The two formats in which a classifier is asked over HTTP: Hugging Face's for images, and plain arrays.

Hugging Face (https://huggingface.co/docs/inference-providers/tasks/image-classification): a request is one image, as
the bytes of a file or, with parameters, as base64 in JSON; the answer is ``[{"label": ..., "score": ...}, ...]``.
Arrays: ``{"inputs": ...}`` holds a batch, ``[n, ...]``, as nested lists or as ``{"shape": [...], "float32": base64}``,
little-endian; the answer is ``{"logits": [[...], ...]}``.
"""

import base64
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

PNG, JSON = "image/png", "application/json"

NUMBERED = re.compile(r"(?:LABEL_)?([0-9]{1,6})")
"""What Hugging Face calls classes that have no name."""


def picture(image: Tensor, top_k: int | None) -> tuple[bytes, str]:
    """A Hugging Face request about one image in [0, 1], shape ``[1 or 3, h, w]``, and its media type.

    Example:
        >>> picture(torch.zeros(3, 8, 8), None)[1], picture(torch.zeros(3, 8, 8), 10)[1]
        ('image/png', 'application/json')
    """
    from PIL import Image

    pixels, file = (image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy(), io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if len(image) == 1 else pixels).save(file, "png", compress_level=1)
    if top_k is None:
        return file.getvalue(), PNG
    inputs = base64.b64encode(file.getvalue()).decode()
    return json.dumps({"inputs": inputs, "parameters": {"top_k": top_k}}).encode(), JSON


def array(inputs: Tensor, *, packed: bool) -> tuple[bytes, str]:
    """A request about a batch in the array format, and its media type.

    Example:
        >>> array(torch.tensor([[0.5, 1.0]]), packed=False)[0]
        b'{"inputs": [[0.5, 1.0]]}'
    """
    if not packed:
        return json.dumps({"inputs": inputs.tolist()}).encode(), JSON
    content = base64.b64encode(inputs.numpy().astype("<f4").tobytes()).decode()
    return json.dumps({"inputs": {"shape": list(inputs.shape), "float32": content}}).encode(), JSON


def log_scores(answer: Any, places: Mapping[str, int], classes: int) -> Tensor:
    """Log-probabilities of all classes from a list of labels and scores, float32, shape ``[1, classes]``.

    The classes that are not listed share what is left evenly, though none gets more than the least one listed.

    Args:
        answer: the JSON.
        places: the classes' numbers by their names; those without names go by ``LABEL_3`` or ``3``.
        classes: how many there are.

    Raises:
        ValueError: it is no such list; the text completes a sentence.

    Example:
        >>> log_scores([{"label": "cat", "score": 0.8}], {"dog": 0, "cat": 1, "cow": 2}, 3).exp()
        tensor([[0.1000, 0.8000, 0.1000]])
    """
    if not isinstance(answer, list) or not answer or not all(isinstance(one, dict) for one in answer):
        raise ValueError(f"gave no list of labels and scores, but {_brief(answer)}")
    scores: dict[int, float] = {}
    for one in answer:
        label, score = one.get("label"), one.get("score")
        place = _place(label, places, classes)
        if place in scores:
            raise ValueError(f"gave the label {_brief(label)} twice")
        if isinstance(score, bool) or not isinstance(score, int | float) or not -1e-3 <= score <= 1 + 1e-3:
            raise ValueError(f"gave the label {_brief(label)} the score {_brief(score)}, which is no probability")
        scores[place] = float(score)
    rest = max(0.0, 1 - sum(scores.values())) / max(1, classes - len(scores))
    whole = torch.full((1, classes), min(rest, *scores.values()))
    whole[0, list(scores)] = torch.tensor(list(scores.values()))
    return whole.clamp_min(torch.finfo(whole.dtype).tiny).log()


def _place(label: Any, places: Mapping[str, int], classes: int) -> int:
    if isinstance(label, str) and label in places:
        return places[label]
    numbered = NUMBERED.fullmatch(label) if isinstance(label, str) and not places else None
    if numbered is None or int(numbered[1]) >= classes:
        known = "one of the class names" if places else f"LABEL_0 to LABEL_{classes - 1}"
        raise ValueError(f"gave the label {_brief(label)}, not {known}: hand over class_names as it spells them")
    return int(numbered[1])


def logits(answer: Any, samples: int, classes: int | None) -> Tensor:
    """Logits from an answer in the array format, float32, shape ``[samples, classes]``.

    Args:
        answer: the JSON.
        samples: how many rows are wanted.
        classes: how many columns; None: at least two.

    Raises:
        ValueError: it holds no such logits; the text completes a sentence.

    Example:
        >>> logits({"logits": [[0.5, 1.5]]}, samples=1, classes=None)
        tensor([[0.5000, 1.5000]])
    """
    rows = answer.get("logits") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise ValueError(f'gave no {{"logits": [[...], ...]}}, but {_brief(answer)}')
    widths = {len(row) for row in rows}
    if len(rows) != samples or len(widths) != 1 or (max(widths) < 2 if classes is None else widths != {classes}):
        raise ValueError(
            f"gave {len(rows)} rows of {' or '.join(map(str, sorted(widths)))} logits to {samples} samples, where "
            f"{samples} rows of {'at least 2' if classes is None else classes} were due"
        )
    try:
        table = np.array(rows)
    except ValueError:  # lists in lists, unequally long
        table = np.array([])
    if table.ndim != 2 or table.dtype.kind not in "fiu" or not bool((np.abs(table) < 1e30).all()):
        raise ValueError("gave logits that are NaN, infinite or no numbers")
    return torch.from_numpy(table.astype(np.float32))


def _brief(value: Any) -> str:
    return f"{value!a:.60}"
