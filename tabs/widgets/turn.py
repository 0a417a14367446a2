"""Whose turn it is: the runs of all visitors use the model one at a time, and a stage says when its run has to wait.

The scripts that the events of a run take as their `js`; the stages are named by the elem_id of what is inside.
"""

import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gradio as gr

HEAD = f"<script>{Path(__file__).with_suffix('.js').read_text(encoding='utf-8')}</script>"


class Shown(NamedTuple):
    """The inputs of what the change of a control has drawn, and when it was done; kept for each visitor."""

    inputs: tuple
    at: float


def remembering(run: Callable[..., Iterator[tuple]]) -> Callable[..., Iterator[tuple]]:
    """The handler `run` for the change of a control: when its summary says finished, there comes a Shown with it.

    While a field is empty, because something else is being typed into it, there is nothing to run. `run` may take the
    Shown of before as its last input, `shown`.
    """
    parameters = inspect.signature(run).parameters
    required = sum(p.default is p.empty for p in parameters.values())
    settings = len(parameters) - ("shown" in parameters)

    def handler(*inputs):
        if None in inputs[:required]:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        for page, about in run(*inputs):
            done = about.get("finished")
            yield page, about, Shown(inputs[:settings], time.monotonic()) if done else gr.skip()

    return handler


def just_shown(shown: Shown | None, *inputs) -> bool:
    """Whether a change has just drawn what a button asks for.

    A number typed before the button is pressed begins a run, and the press asks for the same one, to come after it.
    """
    return shown is not None and shown.inputs == inputs and time.monotonic() - shown.at < 1


def in_turn(*stages: str, of: str = "model", also: str = "") -> dict:
    """The options of an event that is run in turn with all others of its kind: those that use the model, or train one.

    From the moment it is asked for, its first stage waits until something arrives; the script `also` is run besides.
    """
    js = f"(...inputs) => {{ turn.wait({names(stages)}); {also} return inputs; }}"
    return dict(show_progress="hidden", concurrency_id=of, concurrency_limit=1, js=js)


def stops(*stages: str) -> str:
    """When Stop has been pressed."""
    return f"() => turn.stop({names(stages)})"


def settles(*stages: str) -> str:
    """When a run has ended, were it without anything to show."""
    return f"() => turn.settle({names(stages)})"


def names(stages: tuple[str, ...]) -> str:
    return ", ".join(f"'{stage}'" for stage in stages)
