"""Layers that learn: torch.nn's names and arguments, gradients without a graph, everything an array.

>>> import numpy as np
>>> from starconv import nn
>>> network = nn.Sequential(nn.Conv2d(1, 4, 3, seed=0), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10, seed=1))
>>> loss, optimizer = nn.CrossEntropyLoss(), nn.SGD(network.parameters(), lr=0.1, momentum=0.9)
>>> x, y = np.random.default_rng(0).random((16, 1, 8, 8), "float32"), np.arange(16) % 10
>>> losses = []
>>> for _ in range(20):
...     losses.append(loss(network(x), y))
...     network.zero_grad()
...     network.backward_parameters(loss.backward())
...     optimizer.step()
>>> losses[-1] < losses[0]
True
"""

from .activation import Dropout, ReLU
from .container import Residual, Sequential
from .conv import Conv1d, Conv2d, Conv3d
from .conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .history import Epoch, History
from .linear import Flatten, Linear
from .loss import CrossEntropyLoss, Loss, MSELoss
from .module import BackwardError, Module
from .norm import BatchNorm2d
from .optim import SGD, CosineAnnealingLR, Schedule, StepLR
from .parameter import Parameter
from .pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from .step import TrainingStep
from .storage import load_state, save_state
from .summary import Summary
from .training import TrainingError, evaluate, fit, predict

__all__ = [
    "SGD",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BackwardError",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CosineAnnealingLR",
    "CrossEntropyLoss",
    "Dropout",
    "Epoch",
    "Flatten",
    "History",
    "Linear",
    "Loss",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Residual",
    "Schedule",
    "Sequential",
    "StepLR",
    "Summary",
    "TrainingError",
    "TrainingStep",
    "evaluate",
    "fit",
    "load_state",
    "predict",
    "save_state",
]
