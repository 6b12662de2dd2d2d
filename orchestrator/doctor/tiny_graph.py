"""Runs a graph of one addition in this machine's TensorFlow Lite runtime; a process of its own, since a runtime can crash.

python -m orchestrator.doctor.tiny_graph
"""

import base64
import zlib

import numpy as np

from orchestrator.node.litert import load_interpreter

# tf.lite of x + x for a float32 x of shape (1, 4), compressed with zlib.
_GRAPH = (
    b"eNplUctKw1AQPWljLTTUgkW66KJI18HW+gGhrRDoA2oRF4UqJIsskkKNoiB+g7h26dJPcOFC/AoXfoRr47k3k1B04JDJuXfOzJnbBDA/Hh3W0U"
    b"ITDdRRg0WuDJM5yKWIibYB9IhRASgiDaboESbxmSSJKfku0Z9OToezE3c6WY6Hc2fgzB3qWlq7jFQjuxsG0XJ9FcVB6C+v/fVlsIqwRf6FeCae"
    b"iDu5/yh9zomazFFGNddVXFuzJc2VpE6FlXs0tc/79WK//e02i+LF1FVA1+527IP/Gkq7Yx+lRxKvP0nyRrwTO/wfj9xZq7+K6CP2PRtcmd4lOG"
    b"PWXWlWhVf7XYgfT/qEF0GkKjZr67q/hYrUiveKJfmAezGkprAxn7GB7M3OpM8Ha9RRTTTUWYN4IK926Xo+HyW+zeqMfJd72gvETRrbZNOWmZ4h"
    b"3y+Z7eaPjqHfTuWm/v8FNVdKNw=="
)


def main() -> None:
    interpreter = load_interpreter(zlib.decompress(base64.b64decode(_GRAPH)))
    interpreter.allocate_tensors()
    entry, leave = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    x = np.array([[1.0, -2.0, 0.5, 4.0]], np.float32)
    interpreter.set_tensor(entry["index"], x)
    interpreter.invoke()
    answer = interpreter.get_tensor(leave["index"])
    if not np.array_equal(answer, x + x):
        raise SystemExit(f"the runtime answers {answer.tolist()}, not {(x + x).tolist()}")
    print(type(interpreter).__module__.split(".")[0])


if __name__ == "__main__":
    main()
