"""The weights a node has of a run, so that it need only be sent how they change."""

from typing import Any, Dict, Optional

import numpy as np

from orchestrator.errors import WireError
from orchestrator.wire.announcing import WeightsNamed
from orchestrator.wire.weight_step import LEVELS, SCALES, digest_of_weights, stepped

Tensors = Dict[str, np.ndarray]

MOST_AT_REST_BYTES = 16 << 20
"""Of the weights of a run that is not at hand."""


class HeldWeights:
    """Of one run. Nothing of it is stored: a node that began again is sent the weights whole, and so is one that forgot them."""

    def __init__(self) -> None:
        self._digest: Optional[str] = None
        self._weights = np.zeros(0, np.float32)

    def whole(self, header: Dict[str, Any], tensors: Tensors) -> Optional[Tensors]:
        """A round's tensors with its weights, float32 (P,); None where they are a change of other weights than these.

        Raises WireError for weights that are not those the message names, or a change that does not fit.
        """
        said = WeightsNamed.read(header)
        named = said.model
        if not named:
            return tensors
        if not said.since:
            weights = tensors.get("weights")
            # Of another shape a change of them would be as large as their square.
            if (
                weights is None
                or weights.ndim != 1
                or weights.dtype != np.float32
                or digest_of_weights(weights) != named
            ):
                raise WireError("a round came with other weights than it names")
            weights = np.array(weights)  # a view would hold on to all else the message had in it
        elif named == self._digest:
            weights = self._weights  # announced again
        elif said.since == self._digest:
            weights = stepped(self._weights, tensors)
            if digest_of_weights(weights) != named:
                return None
        else:
            return None
        self._digest, self._weights = named, weights
        others = {name: tensor for name, tensor in tensors.items() if name not in (LEVELS, SCALES)}
        return {**others, "weights": weights}

    def rest(self) -> None:
        """The run is not at hand: weights that take much memory are forgotten, and asked for when it is."""
        if self._weights.nbytes > MOST_AT_REST_BYTES:
            self._digest, self._weights = None, np.zeros(0, np.float32)
