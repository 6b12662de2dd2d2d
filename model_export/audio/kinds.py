"""The front ends there are, by name: how each is declared, computed here, and given to a board."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, Mapping, Type

import numpy as np

from model_export.audio.front_end import AudioFrontEnd
from model_export.audio.log_mel import LARGEST, LogMelFrontEnd, LogMelParameters, make_log_mel, pack_log_mel
from model_export.audio.parameters import MICRO_WAKE_WORD, AudioParameters, SoundParameters
from model_export.audio.tables import make_tables, pack_tables
from model_export.errors import AudioError


@dataclass(frozen=True)
class Kind:
    parameters: Type[SoundParameters]
    unit: float
    """What its features are commonly multiplied by before a model is trained on them."""
    pack: Callable[[Any], bytes]
    """Parameters -> the tables that firmware/audio/audio_tables.h reads. Raises AudioError."""
    features: Callable[[Any, np.ndarray], np.ndarray]
    """Parameters and int16 samples (n,) -> uint16 (steps, channels), from silence on."""


MICRO, LOG_MEL = "microfrontend", "log-mel"
KINDS: Dict[str, Kind] = {
    MICRO: Kind(
        AudioParameters,
        0.0390625,
        lambda asked: pack_tables(make_tables(asked)),
        lambda asked, samples: AudioFrontEnd(make_tables(asked)).feed(samples),
    ),
    LOG_MEL: Kind(
        LogMelParameters,
        1 / LARGEST,
        lambda asked: pack_log_mel(make_log_mel(asked)),
        lambda asked, samples: LogMelFrontEnd(make_log_mel(asked)).feed(samples),
    ),
}
KIND = "front_end"
"""The key that says which; left out, it is `microfrontend`."""
PRESETS: Dict[str, Dict[str, Any]] = {"micro-wake-word": {}, LOG_MEL: {KIND: LOG_MEL}}
"""What can be declared by a word: the front end whose models these are, with their parameters."""


def read_parameters(declared: Mapping[str, Any]) -> SoundParameters:
    """Parameters that somebody declared; what is not declared is as its kind has it. Raises AudioError."""
    rest = dict(declared)
    kind = kind_of(rest.pop(KIND, MICRO))
    known = [field.name for field in fields(kind.parameters)]
    for name in rest:
        if name not in known:
            raise AudioError(f"audio: there is no parameter {name!r}; there are {', '.join(known)}")
    return kind.parameters(**rest)


def kind_of(name: Any) -> Kind:
    """Raises AudioError where there is no such front end."""
    if not isinstance(name, str) or name not in KINDS:
        raise AudioError(f"audio: {KIND} is one of {', '.join(KINDS)}, not {name!r}")
    return KINDS[name]


def as_declared(parameters: SoundParameters) -> Dict[str, Any]:
    """All numbers, also those that were left out; read_parameters() reads them back."""
    name = _name_of(parameters)
    return {**({} if name == MICRO else {KIND: name}), **parameters.as_dict()}


def features(samples: np.ndarray, parameters: SoundParameters = MICRO_WAKE_WORD) -> np.ndarray:
    """int16 (n,) -> uint16 (steps, channels), from silence on. The first step takes a whole window."""
    return KINDS[_name_of(parameters)].features(parameters, samples)


def packed_tables(parameters: SoundParameters) -> bytes:
    """What a board reads. Raises AudioError where they cannot be made."""
    return KINDS[_name_of(parameters)].pack(parameters)


def _name_of(parameters: SoundParameters) -> str:
    for name, kind in KINDS.items():
        if kind.parameters is type(parameters):
            return name
    raise TypeError(f"{type(parameters).__name__} is no front end's: {', '.join(KINDS)}")
