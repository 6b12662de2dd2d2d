"""What can go wrong between a Keras model and a board, as few types as a caller needs to tell apart."""


class ExportError(Exception):
    """A model, a spec or a data file cannot be exported. The message says what is wrong and what is accepted."""


class ModelFileError(ExportError):
    """A file is no model that can be exported, for what is in it. The message names the file and how to make one."""


class RowsError(ExportError):
    """Rows that a model cannot be given. The message says of which shape or type they are, or which value is where."""


class WorkerError(ExportError):
    """The process that exports ended without a result. The message has the last that it said."""


class GradientMismatchError(ExportError):
    """A training graph's gradient differs from TensorFlow's. The message names the tensor and the error."""


class UnsupportedOperatorError(ExportError):
    """TensorFlow Lite Micro has no kernel for an operator of the model. The message names operator and index."""


class TflmError(ExportError):
    """TensorFlow Lite Micro could not load or run a model. The message carries what it printed."""


class BundleError(ExportError):
    """A bundle is damaged or incomplete. The message names the file and, where bytes changed, both digests."""


class TfliteError(ExportError):
    """The bytes are not a usable .tflite file. The message names the part and its place in the file."""


class ArrayFileError(ExportError):
    """A .npy or .npz file cannot be read. The message says what is wrong with it."""


class AudioError(ExportError):
    """An audio front end cannot work with its parameters or a file of sound. The message names the parameter or the file."""
