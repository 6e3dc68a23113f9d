"""The card of a saved program: what it is, what it was measured at, how to use it."""

import json
import re
from pathlib import Path, PureWindowsPath
from typing import Any

from .program import Program


def card(program: Program) -> str:
    """The text of ``README.md``, in Markdown with a metadata block as the Hugging Face hub reads it.

    Args:
        program: a trained one.
    """
    backbone = program.backbone
    assert backbone is not None, "only trained programs are saved"
    source = _public(backbone.source or backbone.name)
    size = f", image_size={backbone.input_size}" if backbone.source and backbone.input_size else ""
    revision = f", revision={json.dumps(backbone.revision)}" if backbone.revision else ""
    numbers = sum(tensor.numel() for tensor in program.tensors.values())
    names = ", ".join(_plain(json.dumps(name, ensure_ascii=False)) for name in program.class_names) or "without names"
    training = _without_folders(program.training)
    settings = "\n".join(f"- {_plain(name)}: {_plain(json.dumps(value))}" for name, value in training.items())
    return f"""---
library_name: repromark
tags:
- model-reprogramming
---

# Program for {_plain(backbone.name)}

A reprogramming program: it makes a frozen model classify another task, with {program.classes} classes, by what it does
to the samples (`{program.inputs}`) and by how it reads the outputs (`{program.labels}`). It holds {numbers} learned
numbers. The model itself is not in this folder, and was not changed.

## Measured

{_metrics(program)}

## Use

```python
from attacks.models import load_model
from reprog import Program

model = load_model({json.dumps(source)}{size}{revision})
program = Program.from_pretrained("path/to/this/folder")
classifier = program.attach(model)  # samples in [0, 1] in, logits of the {program.classes} classes out
```

## The model it belongs to

- name: {_plain(backbone.name)}, source: {_plain(source)}, revision: {_plain(str(backbone.revision))}
- input size: `{backbone.input_size}`, outputs: `{backbone.outputs}`
- SHA-256 of its weights and buffers: `{backbone.weights}`

`attach` refuses any other.

## Classes

{names}

## Training

{settings}

The folder also holds 64-bit digests of the {len(program.fingerprints)} samples that the program was trained and
selected on, so that none of them is taken for a test sample. Whoever has such a sample can tell that it was used.

## Limits

Accuracy holds for data like that it was measured on. The program inherits the model's licence terms, biases and
weaknesses, small changes that fool it included.
"""


def _metrics(program: Program) -> str:
    if not program.metrics:
        return "No measurement was saved with this program."
    rows = "\n".join(f"| {_plain(name)} | {rate} |" for name, rate in program.metrics.items())
    return f"| what | rate [95 % Wilson interval] n |\n|---|---|\n{rows}"


def _public(source: str) -> str:
    """A model's id as it is; of a local folder only its name, for the rest of the path is nobody else's business."""
    hub_id = source.count("/") == 1 and source[0].isalnum() and not Path(source).is_dir()
    return source if hub_id else PureWindowsPath(source).name or source


def _without_folders(value: Any) -> Any:
    """Settings whose absolute paths, of a task for instance, are cut to their last part."""
    if isinstance(value, dict):
        return {name: _without_folders(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(part) for part in value]
    absolute = isinstance(value, str) and (value[:1] in ("/", "~") or PureWindowsPath(value).is_absolute())
    return _public(value) if absolute else value


def _plain(text: str) -> str:
    """On one line, and without a character that Markdown would take for markup."""
    return re.sub(r"([\\`*|<>\[\]])", r"\\\1", " ".join(text.split()))
