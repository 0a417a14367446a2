"""Controls and handlers that say plainly what is wrong, and the decorator that borrows a GPU on a ZeroGPU Space."""

import functools
import inspect

import gradio as gr

try:
    import spaces

    gpu = spaces.GPU
except ImportError:  # everywhere but on a ZeroGPU Space

    def gpu(fn=None, **_):
        return fn if callable(fn) else (lambda f: f)


def plainly(fn):
    """The handler fn, with what is wrong with its input said in one sentence on the page instead of a traceback."""
    expected = (ValueError, OSError, RuntimeError)
    if inspect.isgeneratorfunction(fn):

        @functools.wraps(fn)
        def handler(*args, **kwargs):
            try:
                yield from fn(*args, **kwargs)
            except expected as error:
                raise gr.Error(str(error), print_exception=isinstance(error, RuntimeError)) from error
    else:

        @functools.wraps(fn)
        def handler(*args, **kwargs):
            try:
                return fn(*args, **kwargs)
            except expected as error:
                raise gr.Error(str(error), print_exception=isinstance(error, RuntimeError)) from error

    return handler


def seed_of(value: float | None, label: str = "Seed") -> int:
    """What a field for a seed holds, as int. Raises ValueError, naming the field, for what is none, or nothing."""
    if value is None or not 0 <= value < 2**31:
        raise ValueError(f"{label} must be a whole number from 0 to {2**31 - 1}, not {value}.")
    return int(value)


def slider(minimum: float, maximum: float, value: float, *, step: float, label: str, **options) -> gr.Slider:
    """A gr.Slider that says which value is wrong and what would be right, NaN included; whole numbers as int."""
    control = gr.Slider(minimum, maximum, value, step=step, label=label, **options)

    def preprocess(payload: float | None) -> float:
        if payload is None:  # the box beside the slider has been emptied; it shows the least value next
            payload = minimum
        if not isinstance(payload, int | float) or not minimum <= payload <= maximum:
            raise gr.Error(
                f"{label} must lie between {minimum:g} and {maximum:g}, not {payload}.", print_exception=False
            )
        return int(payload) if step % 1 == 0 else float(payload)

    control.preprocess = preprocess  # on the object: a subclass would have Gradio write a .pyi file beside this one
    return control
