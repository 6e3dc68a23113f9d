"""Perturbations keep inputs valid: for any sample, any parameters, any bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attacks.engine import Additive, Universal, as_tensor

shapes = hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)


@given(data=st.data(), shape=shapes, bounds=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]))
@settings(deadline=None, max_examples=80)
def test_clipped_parameters_make_valid_inputs_and_start_changes_nothing(data, shape, bounds):
    unit = hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))
    x = torch.from_numpy(data.draw(unit)) * (bounds[1] - bounds[0]) + bounds[0]
    p = torch.from_numpy(data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-300, 300, width=32))))
    slack = 1e-6 * (bounds[1] - bounds[0])
    for perturbation in (Additive(bounds), Universal(bounds)):
        assert torch.equal(perturbation(x, perturbation.start(x)), x)
        point = p[:1] if perturbation.shared else p
        made = perturbation(x, perturbation.clip(x, point))
        assert made.min() >= bounds[0] - slack and made.max() <= bounds[1] + slack
        assert torch.allclose(made, (x + point).clamp(*bounds), atol=slack)


def test_a_universal_perturbation_sums_the_batch_in_its_gradient():
    x, perturbation = torch.full((5, 2), 0.5), Universal()
    p = perturbation.start(x).requires_grad_()
    perturbation(x, p).sum().backward()
    assert p.grad.tolist() == [[5.0, 5.0]]


def test_named_parameters_are_refused_where_one_tensor_is_due():
    with pytest.raises(TypeError, match="one tensor"):
        as_tensor({"a": torch.zeros(1)})
