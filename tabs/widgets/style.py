"""How the page looks: one theme, one style sheet, one colour a thing in light and dark.

The colours are Okabe and Ito's, which stay apart for colour-blind eyes; lines differ by dash as well.
"""

from pathlib import Path

import gradio as gr

THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    radius_size="sm",
    spacing_size="sm",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
).set(
    body_background_fill="#f6f7f9",
    body_background_fill_dark="#0f1318",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_border_width="0px",
    block_shadow="none",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    button_primary_background_fill="#0072b2",
    button_primary_background_fill_hover="#005f95",
    button_primary_background_fill_dark="#0072b2",
    button_primary_background_fill_hover_dark="#1a86c4",
    button_primary_text_color="white",
    slider_color="#0072b2",
    slider_color_dark="#56b4e9",
    checkbox_label_background_fill="transparent",
    checkbox_label_background_fill_dark="transparent",
    checkbox_label_background_fill_hover="transparent",
    checkbox_label_background_fill_hover_dark="transparent",
    checkbox_background_color_selected="#0072b2",
    checkbox_background_color_selected_dark="#0072b2",
)

CSS = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
