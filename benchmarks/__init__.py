"""Speed against other packages, on one thread for everyone.

Every script runs this package and its peers on the same work in one process, and compares their results before it times
them::

    python -m benchmarks                        # all of them; writes benchmarks/RESULTS.md
    python -m benchmarks.gradient_step --quick  # one of them, on small problems
"""

from __future__ import annotations

import os

# before torch, JAX, numba or an OpenMP library is imported
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
