"""`compare.py BUNDLE`: the int8 model's doses beside the float model's and the right ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

bundle = Path(sys.argv[1])
manifest = json.loads((bundle / "manifest.json").read_text())
entry, leave = manifest["input"], manifest["output"]
with np.load("test.npz") as test:
    x, right, wanted = test["x"], test["y"], test["float"]
# A board takes int8: real value = scale * (int8 - zero_point).
np.save("inputs.npy", np.clip(np.rint(x / entry["scale"]) + entry["zero_point"], -128, 127).astype(np.int8))
run = ["edgeward", "model", "run", str(bundle / "model.tflite"), "--engine", "tflm"]
subprocess.run([*run, "--inputs", "inputs.npy", "--outputs", "outputs.npy"], check=True)
found = (np.load("outputs.npy").astype(np.float32) - leave["zero_point"]) * leave["scale"]
print(f"a step of the int8 output is {leave['scale']:.3f}")
print(f"mean difference from the float model {np.abs(found - wanted).mean():.3f}")
print(f"mean error: float model {np.abs(wanted - right).mean():.3f}, int8 model {np.abs(found - right).mean():.3f}")
