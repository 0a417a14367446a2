"""Whether what is written can be read: contrasts as WCAG 2 computes them, in light and dark; and rules that match."""

import re

import pytest

from tabs import talk
from tabs.widgets.style import CSS

TEXT = ("--data", "--noise", "--snr", "--faint", "--ink", "--accent")
OWN = r"(\.dark )?(\.[\w-]+) \{ --own: (#\w{6})"  # the colour of a line and its label


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def variables(theme: str) -> dict[str, str]:
    light, dark = (re.search(rf"{re.escape(head)} \{{([^}}]*)\}}", CSS)[1] for head in (":root", ".dark"))
    read = [dict(re.findall(r"(--\w+): (#\w{6})", text)) for text in (light, dark)]
    return read[0] if theme == "light" else read[0] | read[1]


def test_contrast_is_that_of_the_definition():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # WebAIM's example: just AA


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", TEXT)
def test_text_is_at_least_aa_on_the_panels(theme, name):
    colours = variables(theme)
    assert contrast(colours[name], colours["--panel"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_line_of_a_plot_and_its_label_too(theme):
    panel = variables(theme)["--panel"]
    found = [(name, colour) for dark, name, colour in re.findall(OWN, CSS) if bool(dark) == (theme == "dark")]
    assert len(found) >= 20
    weak = {name: round(contrast(colour, panel), 2) for name, colour in found if contrast(colour, panel) < 4.5}
    assert weak == {}


@pytest.mark.parametrize("css", [CSS, talk.CSS], ids=["style", "talk"])
def test_rules_for_some_screens_survive_the_container_that_gradio_puts_before_them(css):
    """It puts one before each selector within @media, and splits at any comma: of its own class no rule is left."""
    for block in re.findall(r"@media[^{]*\{((?:[^{}]*\{[^{}]*\})*)\s*\}", css):
        for selector in re.findall(r"([^{}]+)\{", block):
            assert "gradio-container" not in selector
            assert not re.search(r":\w+\([^)]*,", selector)
