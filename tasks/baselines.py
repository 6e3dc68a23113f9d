"""What a reprogrammed model must beat, on the same labelled samples and the same test set.

The frozen model sees the samples once, without a learned program; every baseline is made from those outputs. All
baselines learn from the validation samples too: a program chooses its epoch by their labels, so it has used them.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.engine import Rate
from attacks.models import batched_logits
from reprog import FullImage, Mapping, map_outputs
from reprog.inputs import InputProgram

from .datasets import Split, Task

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

PENALTIES = tuple(10.0**power for power in range(-5, 2))
"""Inverse strengths of the linear probe's L2 penalty, of which cross-validation chooses one."""

SLACKS = (0.1, 1.0, 10.0, 100.0)
"""Prices of an error for the support vector machine, of which cross-validation chooses one."""

FOLDS = 5


@dataclass(frozen=True)
class Baseline:
    """A simple method's result on a task.

    Attributes:
        name: the method.
        rate: its accuracy on the test set.
        trained_on: labelled samples that it used, those for validation among them.
        settings: what it is made of, plain JSON.
    """

    name: str
    rate: Rate
    trained_on: int
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The baseline as plain JSON."""
        return {**asdict(self), "rate": self.rate.to_dict()}


def baselines(
    model: nn.Module,
    task: Task,
    *,
    inputs: InputProgram,
    labels: Mapping,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = False,
) -> dict[str, Baseline]:
    """All baselines of a program: ``majority``, ``mapping_only``, ``linear_probe`` and ``raw_svm``.

    The linear probe sees the samples resized to the program's whole canvas; the mapping sees them as the program places
    them, before it has learned.

    Args:
        model: the frozen model, from images ``[n, 3, h, w]`` in [0, 1] to logits.
        task: the target task.
        inputs: the program's input transform.
        labels: the program's label mapping.
        seed: of the cross-validation's folds.
        batch_size: samples sent to the model at once.
        progress: show a bar over the batches.

    Returns:
        The baselines by name.

    Example:
        >>> from reprog import BayesianPlus, FullImage
        >>> from tasks.datasets import load_task
        >>> model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten())
        >>> made = baselines(model, load_task("digits", shots=5), inputs=FullImage(size=8), labels=BayesianPlus())
        >>> [(name, one.trained_on) for name, one in made.items()]
        [('majority', 250), ('mapping_only', 250), ('linear_probe', 250), ('raw_svm', 250)]
    """

    def outputs(inputs: InputProgram, split: Split) -> Tensor:
        return batched_logits(_Unlearned(model, inputs), split.inputs, batch_size=batch_size, progress=progress)

    plain = FullImage(size=inputs.input_size[0])
    seen = outputs(plain, task.labelled), outputs(plain, task.test)
    placed = seen if inputs == plain else (outputs(inputs, task.labelled), outputs(inputs, task.test))
    probe = linear_probe(task, *seen, seed=seed)
    made = majority(task), mapping_only(task, *placed, labels=labels), probe, raw_svm(task, seed=seed)
    return {baseline.name: baseline for baseline in made}


def majority(task: Task) -> Baseline:
    """Always the most frequent class of the labelled samples; among equals the one that is most frequent in the test.

    Example:
        >>> from tasks.datasets import load_task
        >>> print(majority(load_task("digits", validation=0)).rate)
        0.114 [0.089, 0.145] n=500
    """
    known, test = (torch.bincount(part.labels, minlength=task.classes) for part in (task.labelled, task.test))
    best = max(range(task.classes), key=lambda label: (int(known[label]), int(test[label])))
    rate = Rate(int(test[best]), len(task.test))
    return Baseline("majority", rate, len(task.labelled), {"class": task.class_names[best]})


def mapping_only(task: Task, known: Tensor, test: Tensor, *, labels: Mapping) -> Baseline:
    """A label mapping on the frozen model's outputs, without any input program.

    Args:
        task: the target task.
        known: the frozen model's outputs for the labelled samples (``task.labelled``), shape ``[n, outputs]``.
        test: those for the test samples.
        labels: how the mapping is found.
    """
    predicted = map_outputs(test, labels.find(known, task.labelled.labels, task.classes)).argmax(1)
    rate = Rate.of(predicted == task.test.labels)
    return Baseline("mapping_only", rate, len(known), {"mapping": type(labels).__name__, **vars(labels)})


def linear_probe(task: Task, known: Tensor, test: Tensor, *, seed: int = 0) -> Baseline:
    """Logistic regression on the frozen model's standardised outputs or features.

    Args:
        task: the target task.
        known: outputs for the labelled samples (``task.labelled``), shape ``[n, outputs]``.
        test: outputs for the test samples.
        seed: of the folds.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # The rotation into the samples' own span changes no result, since an L2 penalty does not see it, and saves time.
    prepare = make_pipeline(StandardScaler(), PCA(svd_solver="full"))
    seen, asked = prepare.fit_transform(known.double().numpy()), prepare.transform(test.double().numpy())
    rate, settings = _chosen(LogisticRegression(max_iter=1000), PENALTIES, task, seen, asked, seed)
    return Baseline("linear_probe", rate, len(known), settings | {"outputs": known.shape[1]})


def raw_svm(task: Task, *, seed: int = 0) -> Baseline:
    """A support vector machine (RBF kernel) on the samples themselves: what can be had without the frozen model.

    Args:
        task: the target task.
        seed: of the folds.

    Example:
        >>> from tasks.datasets import load_task
        >>> print(raw_svm(load_task("digits", validation=0)).rate)
        0.958 [0.937, 0.972] n=500
    """
    from sklearn.svm import SVC

    known, asked = (part.inputs.flatten(1).double().numpy() for part in (task.labelled, task.test))
    rate, settings = _chosen(SVC(), SLACKS, task, known, asked, seed)
    return Baseline("raw_svm", rate, len(known), settings)


def _chosen(
    method: "ClassifierMixin", strengths: tuple[float, ...], task: Task, known: Any, asked: Any, seed: int
) -> tuple[Rate, dict[str, Any]]:
    """A classifier's test accuracy, its ``C`` chosen by cross-validation inside the labelled samples.

    Where a class has a single sample there is nothing to validate on, and the first strength is taken.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    labels = task.labelled.labels.numpy()
    folds = min(FOLDS, int(np.bincount(labels).min()))
    method.set_params(C=strengths[0])
    if folds > 1:
        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        method = GridSearchCV(method, {"C": strengths}, cv=split).fit(known, labels).best_estimator_
    predicted = torch.from_numpy(method.fit(known, labels).predict(asked))
    return Rate.of(predicted == task.test.labels), {"C": method.C, "folds": folds}


class _Unlearned(nn.Module):
    """The model behind a program's input transform that has not learned anything."""

    def __init__(self, model: nn.Module, inputs: InputProgram) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, x: Tensor) -> Tensor:
        """The frozen model's outputs, shape ``[n, outputs]``."""
        return self.model(self.inputs(x, self.inputs.start(x)))
