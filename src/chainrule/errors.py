"""Every exception and warning that chainrule raises on purpose.

ChainruleError
├── ShapeError            (ValueError)        shapes that an operation cannot combine
├── DTypeError            (TypeError)         element types that an operation cannot take
├── ArgumentError         (ValueError)        an argument outside its range, misspelt or of the wrong kind
├── GraphError            (RuntimeError)      a graph or trace used in a way it does not allow
│   ├── CapturedTensorError                   a traced function reads a Tensor it was not given
│   └── DataDependentError                    a traced function branches or indexes on values it does not have yet
├── DataError             (ValueError)        data that cannot be meant: NaN, ragged rows, labels out of range
├── NotFittedError        (RuntimeError)      asked for a result of training before training
├── NonFiniteError        (ArithmeticError)   training met NaN or infinity; the weights were left untouched
├── CheckpointError       (RuntimeError)      a checkpoint is damaged, foreign or of another network
├── BusyError             (RuntimeError)      the state is already being trained by another thread or process
└── MissingDependencyError(ImportError)       an optional package is not installed

Every message says what was asked, what was found, and what to do.
"""


class ChainruleError(Exception):
    """Base class, so that one ``except`` catches everything chainrule raises."""


class ShapeError(ChainruleError, ValueError):
    """Shapes that an operation cannot combine."""


class DTypeError(ChainruleError, TypeError):
    """Element types that an operation cannot take."""


class ArgumentError(ChainruleError, ValueError):
    """An argument outside its range, misspelt or of the wrong kind."""


class GraphError(ChainruleError, RuntimeError):
    """A graph or trace used in a way it does not allow."""


class CapturedTensorError(GraphError):
    """A traced function reads a Tensor it was not given."""


class DataDependentError(GraphError):
    """A traced function branches or indexes on values that it does not have yet."""


class DataError(ChainruleError, ValueError):
    """Data that cannot be meant: NaN, ragged rows, labels out of range."""


class NotFittedError(ChainruleError, RuntimeError):
    """A result of training was asked for before training."""


class NonFiniteError(ChainruleError, ArithmeticError):
    """Training met NaN or infinity; the weights were left untouched.

    step: the update that was not made, counted from 1. operation, layer: where the first such value was made, as far as
    known.
    """

    def __init__(self, message: str, step: int = 0, operation: str = "", layer: str = "") -> None:
        super().__init__(message)
        self.step, self.operation, self.layer = step, operation, layer


class CheckpointError(ChainruleError, RuntimeError):
    """A checkpoint is damaged, foreign or of another network."""


class BusyError(ChainruleError, RuntimeError):
    """The state is already being trained by another thread or process."""


class MissingDependencyError(ChainruleError, ImportError):
    """An optional package is not installed."""


class ChainruleWarning(UserWarning):
    """Something that could be meant, said once, and recorded in the run."""


class UnreachableWarning(ChainruleWarning):
    """A gradient is zero because no differentiable path joins the value to the loss."""
