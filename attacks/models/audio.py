"""Sound classifiers that take raw waves, from the Hugging Face hub or a folder; 16-bit WAV files, read and written."""

import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..engine import device_of
from ..errors import InputError
from ..files import write_atomically
from .checkpoints import Checkpoint, Kind, class_names

SOUNDS = Kind(
    name="an audio classifier",
    task="audio classification",
    auto="AutoModelForAudioClassification",
    architectures="MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
    reader="AutoFeatureExtractor",
    prepares="feature extractor",
    file="preprocessor_config.json",
    files="*processor_config.json",
)

FULL_SCALE = 2**15
"""What a 16-bit sample is divided by."""


class AudioModel(nn.Module):
    """A classifier of raw waves with its normalisation inside; :func:`load_audio_model` makes these.

    Any other torch module from waves to logits can be attacked as it is.

    Args:
        network: takes waves ``[n, samples]``, gives logits ``[n, classes]`` or an object that has them as ``.logits``.
        sampling_rate: samples a second that it was trained on.
        normalize: whether every wave is brought to mean 0 and variance 1 first.
        name: for tables and reports.
        source: where it came from.
        class_names: in the order of the logits.
        revision: the exact version of ``source``, where it has one.

    Example:
        >>> model = AudioModel(nn.Linear(4, 2), sampling_rate=16_000, normalize=True, name="tiny", source="tiny")
        >>> model(torch.tensor([[0.1, -0.1, 0.2, 0.0]])).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sampling_rate: int,
        normalize: bool,
        name: str,
        source: str,
        class_names: Sequence[str] | None = None,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        self.network, self.sampling_rate, self.normalize = network, sampling_rate, normalize
        self.name, self.source, self.revision = name, source, revision
        self.class_names = None if class_names is None else list(class_names)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is, and where waves must be."""
        return device_of(self.network)

    def forward(self, waves: Tensor) -> Tensor:
        """Classify.

        Args:
            waves: float32, shape ``[n, samples]``, in [-1, 1], at the model's sampling rate.

        Returns:
            Logits, shape ``[n, classes]``.

        Raises:
            InputError: for another shape.
        """
        if waves.dim() != 2 or not waves.is_floating_point():
            raise InputError(
                f"The waves are {waves.dtype} of shape {tuple(waves.shape)} but must be floating-point [n, samples]: "
                "divide 16-bit samples by 32768, and take one channel."
            )
        if self.normalize:
            spread = waves.var(dim=1, keepdim=True, correction=0)
            waves = (waves - waves.mean(dim=1, keepdim=True)) / (spread + 1e-7).sqrt()
        outputs = self.network(waves)
        return getattr(outputs, "logits", outputs)


def load_audio_model(source: str | Path, *, revision: str | None = None) -> AudioModel:
    """Load a Hugging Face audio classifier that takes raw waves (wav2vec 2.0, HuBERT, WavLM and their like).

    Only safetensors are read and no code of the repository is run.

    Args:
        source: a local folder as ``save_pretrained`` writes it, or a hub id such as superb/wav2vec2-base-superb-ks.
        revision: a branch, tag or commit of the hub's repository.

    Returns:
        The model, in evaluation mode on the CPU; ``.to("cuda")`` moves it.

    Raises:
        InputError: nothing there, no safetensors weights, no classification head, or a model that takes spectrograms;
            the sentence says what to do.

    Example:
        >>> load_audio_model("no/such/folder")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: There is no folder no/such/folder, and it is no hub id either: give a folder that \
save_pretrained wrote with an audio classifier in it, or an id such as owner/model.
    """
    checkpoint = Checkpoint(str(source), SOUNDS, revision)
    checkpoint.check()
    with checkpoint.quiet():
        config = checkpoint.config()
        network = checkpoint.network(config)
        reader = checkpoint.reader("build an AudioModel from a network of yours")
    if not isinstance(reader, checkpoint.transformers().Wav2Vec2FeatureExtractor):
        raise InputError(
            f"{source} takes spectrograms ({type(reader).__name__}), through which no gradient reaches the wave: "
            "choose a model that takes raw waves, such as wav2vec 2.0, or wrap it with a differentiable spectrogram."
        )
    return AudioModel(
        network,
        sampling_rate=reader.sampling_rate,
        normalize=bool(reader.do_normalize),
        name=checkpoint.name,
        source=str(source),
        class_names=class_names(config.id2label),
        revision=getattr(config, "_commit_hash", None),
    )


def write_wav(path: str | Path, waves: Tensor, *, sampling_rate: int) -> None:
    """Write a wave as a 16-bit WAV file, its samples rounded to multiples of 1/32768.

    Args:
        path: of the file; it appears whole or not at all.
        waves: shape ``[samples]``, or ``[channels, samples]``, in [-1, 32767/32768].
        sampling_rate: samples a second.

    Raises:
        InputError: for another shape or range.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "tone.wav")
        >>> write_wav(path, torch.tensor([0.0, 0.5, -1.0]), sampling_rate=16_000)
        >>> read_wav(path)
        (tensor([[ 0.0000,  0.5000, -1.0000]]), 16000)
    """
    samples = (waves.detach().cpu().double() * FULL_SCALE).round()
    low, high = (float(value) for value in samples.aminmax())
    if samples.dim() not in (1, 2) or not (low >= -FULL_SCALE and high < FULL_SCALE):  # also true for NaN
        raise InputError(
            f"The wave has shape {tuple(waves.shape)} and lies in [{low / FULL_SCALE:g}, {high / FULL_SCALE:g}] but "
            "must be [samples] or [channels, samples] in [-1, 32767/32768]: clamp it."
        )
    channels = samples.reshape(1, -1) if samples.dim() == 1 else samples
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(sampling_rate)
        file.writeframes(channels.T.numpy().astype("<i2").tobytes())
    write_atomically(path, buffer.getvalue())


def read_wav(path: str | Path) -> tuple[Tensor, int]:
    """Read a 16-bit WAV file.

    Returns:
        The wave, float32, shape ``[channels, samples]``, in [-1, 32767/32768]; and its samples a second.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            content = file.readframes(file.getnframes())
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check the path.") from None
    except (wave.Error, EOFError) as error:
        raise InputError(f"{path} is no WAV file of plain samples ({error}): convert it to 16-bit PCM.") from None
    if width != 2:
        raise InputError(f"{path} has samples of {8 * width} bits: convert it to 16-bit PCM.")
    samples: Any = np.frombuffer(content, "<i2").reshape(-1, channels).T.astype(np.float32)
    return torch.from_numpy(samples / FULL_SCALE), rate
