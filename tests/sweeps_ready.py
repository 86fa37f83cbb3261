"""What a tiny sweep imports and compiles: done here, so that a process that is forked after it starts at once.

Nothing takes a gradient, whose threads do not survive a fork.
"""

from __future__ import annotations

from importlib import import_module

import torch

from experiments.sweep.job import events_of
from experiments.sweep.points import Base
from experiments.trained import built
from qgen.metrics import evaluate
from qgen.random import new_generator
from sweeps import TINY

torch.set_num_threads(1)
for _module in (
    "torch._dynamo",
    "pyarrow.csv",
    "pyarrow.parquet",
    "experiments.sweep.terminal",
    "experiments.report.sweep",
):
    import_module(_module)
with torch.no_grad():
    _experiment = Base(TINY).experiment
    _events = events_of(_experiment)
    _model = built("born", _experiment.models["born"], _events, 0)
    _truth = _events.train.take(range(100))
    _drawn = _truth.with_samples(_model.sample(100, _truth.conditions, new_generator(0)), _truth.conditions)
    evaluate(_truth, {"born": _drawn}, metrics=["correlation"], n_bootstrap=2)
