"""Measures of a model: the share that is right, the numbers that are learned."""

import torch
from torch import nn

from nnlib.train.metrics import accuracy, parameter_count
from tests.support import refuses


def test_accuracy_is_the_share_of_rows_whose_largest_score_is_the_target():
    scores = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]])
    assert accuracy(nn.Identity(), scores, torch.tensor([0, 1, 1, 0])) == 0.75


def test_accuracy_names_targets_of_another_length():
    with refuses(ValueError, "y must have shape (4), got (3,)"):
        accuracy(nn.Identity(), torch.ones(4, 2), torch.ones(3, dtype=torch.long))


def test_parameter_count_leaves_frozen_ones_out():
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    assert parameter_count(model) == 3 * 8 + 8 + 8 * 2 + 2
    model[0].weight.requires_grad_(False)
    assert parameter_count(model) == 8 + 8 * 2 + 2
