"""Adversarial attacks on one perturbation engine."""

from ._sisters import check_sisters

check_sisters("attacks")
