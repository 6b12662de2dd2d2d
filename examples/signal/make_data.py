"""Invented pulse waves: site-1.npz and site-2.npz for the nodes, held-out, calibration and new ones."""

import numpy as np

SAMPLES, UNIT = 64, 200.0


def write(name: str, seed: int, patients: int, waves: int = 20, labelled: bool = True) -> None:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), waves)
    early = rng.random(len(patient)) < rng.beta(2, 3, patients)[patient]
    time = np.arange(SAMPLES)
    peak = np.where(early, 20, 32) + rng.normal(0, 2, len(patient))
    width = np.where(early, 9, 5) + rng.normal(0, 0.7, len(patient))
    wave = np.exp(-(((time - peak[:, None]) / width[:, None]) ** 2) / 2)
    height = rng.normal(1.2, 0.15, patients)[patient]  # patients differ
    noisy = height[:, None] * wave + rng.normal(0, 0.08, wave.shape)
    arrays = {"x": np.round(noisy * UNIT).astype(np.int16), "patient": patient}
    if labelled:
        arrays["y"] = early.astype(np.int64)
    np.savez(f"{name}.npz", **arrays)


if __name__ == "__main__":
    for site in (1, 2):
        write(f"site-{site}", site, 80)
    write("held-out", 3, 20)
    write("calibration", 4, 15)
    write("new", 5, 2, labelled=False)
