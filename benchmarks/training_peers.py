"""The other side of benchmarks/training.py, for an interpreter that has Opacus, JAX or Keras. It imports nothing of ours.

python benchmarks/training_peers.py opacus|jax|keras MODEL BATCH STEPS   prints a JSON line for each line it reads
"""

import json
import os
import resource
import sys
import time
from typing import Any, Callable, List, Tuple

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402 (after the number of threads)

RECORDS = 4096
CLIP, NOISE, RATE = 1.0, 1.0, 0.05

CONVOLUTIONS = {"ecg": (16, 32), "ecg-7k": (24, 40)}


def data(model: str) -> Tuple[np.ndarray, np.ndarray]:
    """Records of random numbers: how fast a step is does not hang on what is learned."""
    random = np.random.default_rng(0)
    shape, classes = {"mlp": ((13,), 2), "depthwise": ((28, 28, 1), 10)}.get(model, ((128, 1), 3))
    x = random.standard_normal((RECORDS, *shape)).astype(np.float32)
    return x, random.integers(0, classes, RECORDS).astype(np.int32)


Peer = Tuple[Callable[[], None], str]
"""A step, and the versions it runs on."""


def take_turns(
    steps: int, step: Callable[[], None], processor_s: Callable[[], float], memory_mib: Callable[[], float]
) -> None:
    """Makes so many steps for each line of standard input and prints a step's seconds; at the end, memory.

    Programs that are compared take turns, so that what a shared machine does meanwhile falls on all of them alike.
    """
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        begun, before = time.perf_counter(), processor_s()
        for _ in range(steps):
            step()
        took = {"cpu_s": processor_s() - before, "wall_s": time.perf_counter() - begun}
        print(json.dumps({name: seconds / steps for name, seconds in took.items()}), flush=True)
    print(json.dumps({"memory_mib": memory_mib()}), flush=True)


def torch_model(torch: Any, model: str) -> Any:
    nn = torch.nn
    if model == "mlp":
        return nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 2))
    first, second = CONVOLUTIONS[model]
    return nn.Sequential(
        nn.Conv1d(1, first, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(first, second, 7, padding=3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(second, 3),
    )


def opacus(model: str, batch: int) -> Peer:
    """DP-SGD by DPOptimizer on a GradSampleModule, on Poisson samples as its own loader draws them."""
    import warnings

    warnings.filterwarnings("ignore")
    import opacus as package
    import torch
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    torch.set_num_threads(1)
    x, y = data(model)
    x = x if model == "mlp" else np.ascontiguousarray(x.transpose(0, 2, 1))
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    module = GradSampleModule(torch_model(torch, model))
    optimizer = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=RATE),
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
        expected_batch_size=batch,
    )
    loss_of = torch.nn.CrossEntropyLoss()

    def step() -> None:
        chosen = torch.nonzero(torch.rand(RECORDS) < batch / RECORDS).flatten()
        optimizer.zero_grad()
        loss_of(module(inputs[chosen]), labels[chosen]).backward()
        optimizer.step()

    return step, f"Opacus {package.__version__}, PyTorch {torch.__version__}"


def jax_logits(jnp: Any, lax: Any, model: str, w: Any, x: Any) -> Any:
    """Of one record."""
    if model == "mlp":
        return jnp.maximum(x @ w[0] + w[1], 0) @ w[2] + w[3]

    def convolved(value: Any, kernel: Any, bias: Any) -> Any:
        numbers = ("NWC", "WIO", "NWC")
        return jnp.maximum(lax.conv_general_dilated(value, kernel, (1,), "SAME", dimension_numbers=numbers) + bias, 0)

    hidden = convolved(x[None], w[0], w[1])
    hidden = hidden.reshape(1, 64, 2, -1).max(axis=2)
    return convolved(hidden, w[2], w[3])[0].mean(axis=0) @ w[4] + w[5]


def jax(model: str, batch: int) -> Peer:
    """One compiled function: vmap of grad, clipping, normal noise. All samples have `batch` records, which is easier."""
    import jax as package
    import jax.numpy as jnp
    from jax import lax

    random = np.random.default_rng(1)
    first, second = CONVOLUTIONS.get(model, (0, 0))
    shapes: List[Tuple[int, ...]] = [(7, 1, first), (first,), (7, first, second), (second,), (second, 3), (3,)]
    shapes = [(13, 16), (16,), (16, 2), (2,)] if model == "mlp" else shapes
    weights = [jnp.asarray(random.normal(0, 0.1, shape).astype(np.float32)) for shape in shapes]

    def loss(w: Any, x: Any, y: Any) -> Any:
        return -package.nn.log_softmax(jax_logits(jnp, lax, model, w, x))[y]

    def private_step(w: Any, x: Any, y: Any, key: Any) -> Any:
        gradients = package.vmap(package.grad(loss), (None, 0, 0))(w, x, y)
        squares = sum((g.reshape(len(x), -1) ** 2).sum(axis=1) for g in gradients)
        factors = jnp.minimum(1.0, CLIP / jnp.maximum(jnp.sqrt(squares), 1e-30))
        sums = [jnp.tensordot(factors, g, 1) for g in gradients]
        keys = package.random.split(key, len(w))
        noisy = [s + NOISE * CLIP * package.random.normal(k, s.shape) for s, k in zip(sums, keys)]
        return [v - RATE / batch * n for v, n in zip(w, noisy)]

    compiled = package.jit(private_step)
    x, y = data(model)
    key = package.random.PRNGKey(0)
    state = {"weights": weights, "key": key}

    def step() -> None:
        state["key"], now = package.random.split(state["key"])
        chosen = random.integers(0, RECORDS, batch)
        state["weights"] = package.block_until_ready(compiled(state["weights"], x[chosen], y[chosen], now))

    return step, f"JAX {package.__version__}"


def keras(model: str, batch: int) -> Peer:
    """`train_on_batch`, without privacy."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras as package

    network = keras_model(model)
    network.compile(
        package.optimizers.SGD(RATE), package.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=False
    )
    x, y = data(model)
    random = np.random.default_rng(1)

    def step() -> None:
        chosen = random.integers(0, RECORDS, batch)
        network.train_on_batch(x[chosen], y[chosen])

    return step, f"Keras {package.__version__}, TensorFlow {tf.__version__}"


def keras_model(model: str) -> Any:
    import keras as package

    layers = package.layers
    if model == "mlp":
        return package.Sequential([layers.Input((13,)), layers.Dense(16, "relu"), layers.Dense(2)])
    if model == "depthwise":
        return package.Sequential(
            [
                layers.Input((28, 28, 1)),
                layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
                layers.DepthwiseConv2D(3, padding="same", activation="relu"),
                layers.Conv2D(16, 1, activation="relu"),
                layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu"),
                layers.Conv2D(32, 1, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10),
            ]
        )
    first, second = CONVOLUTIONS[model]
    return package.Sequential(
        [
            layers.Input((128, 1)),
            layers.Conv1D(first, 7, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(second, 7, padding="same", activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )


if __name__ == "__main__":
    peer = {"opacus": opacus, "jax": jax, "keras": keras}[sys.argv[1]]
    made, version = peer(sys.argv[2], int(sys.argv[3]))
    for _ in range(3):
        made()
    print(json.dumps({"version": version}), flush=True)
    take_turns(
        int(sys.argv[4]), made, time.process_time, lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
