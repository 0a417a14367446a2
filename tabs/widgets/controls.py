"""Controls and handlers that say plainly what is wrong, and the decorator that borrows a GPU on a ZeroGPU Space."""

import functools
import inspect
import random
from abc import ABCMeta

import gradio as gr

try:
    import spaces

    gpu = spaces.GPU
except ImportError:  # everywhere but on a ZeroGPU Space

    def gpu(fn=None, **_):
        return fn if callable(fn) else (lambda f: f)


QUIET = dict(api_visibility="private", show_progress="hidden")  # an event that only serves the page


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
    if value is None:
        raise ValueError(f"{label} is empty; it must be a whole number from 0 to {2**31 - 1}.")
    if not 0 <= value < 2**31 or value % 1:
        raise ValueError(f"{label} must be a whole number from 0 to {2**31 - 1}, not {value}.")
    return int(value)


def _said_plainly(control: gr.Slider, payload: float | None) -> float:
    """The value of a slider, or of the box beside it: whole where its step is. Refused by name if out of its range."""
    if payload is None:  # the box has been emptied; it shows the least value next
        payload = control.minimum
    if not isinstance(payload, int | float) or not control.minimum <= payload <= control.maximum:
        raise gr.Error(
            f"{control.label} must lie between {control.minimum:g} and {control.maximum:g}, not {payload}.",
            print_exception=False,
        )
    return int(payload) if control.step % 1 == 0 else float(payload)


# A class, because Gradio makes a component anew from its class once an event has touched it, by gr.skip() too. Not by a
# class statement: Gradio's metaclass would then write a .pyi file beside this one.
_Slider = ABCMeta.__new__(
    type(gr.Slider), "Slider", (gr.Slider,), {"preprocess": _said_plainly, "__module__": gr.Slider.__module__}
)


def slider(minimum: float, maximum: float, value: float, *, step: float, label: str, **options) -> gr.Slider:
    """A gr.Slider that says which value is wrong and what would be right, NaN included; whole numbers as int."""
    return _Slider(minimum, maximum, value, step=step, label=label, **options)


def seed_field(value: int, label: str = "Seed", *, elem_id: str) -> gr.Number:
    """A field for a seed, and beside it a die that throws another."""
    with gr.Row(elem_classes="with-die"):
        seed = gr.Number(value, label=label, elem_id=elem_id, min_width=100)
        die = gr.Button("⚄ New", elem_classes="die", elem_id=f"{elem_id}-die")
    die.click(lambda: random.randrange(10_000), None, seed, **QUIET)
    return seed


def go_and_stop(label: str, go: str, stop: str) -> tuple[gr.Button, gr.Button]:
    """The button that begins a run, called `label`, and the one beside it that ends it; go and stop: their elem_ids."""
    with gr.Row(elem_classes="buttons"):
        return (
            gr.Button(label, variant="primary", elem_id=go, min_width=80),
            gr.Button("Stop", elem_id=stop, min_width=80),
        )
