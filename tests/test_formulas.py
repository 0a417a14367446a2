"""Every formula stands under a control that there is, and has one for each of its choices."""

import json

import pytest

import app
from tabs.widgets.formulas import FORMULAS, head


@pytest.fixture(scope="module")
def controls() -> dict[str, dict]:
    """Properties of the page's controls by elem_id, with what kind they are."""
    config = app.demo.get_config_file()
    return {
        c["props"]["elem_id"]: c["props"] | {"kind": c["type"]}
        for c in config["components"]
        if c["props"].get("elem_id")
    }


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_has_its_control_and_shows_what_is_in_it(controls, name):
    formula, control = FORMULAS[name], controls[name]
    if isinstance(formula, str):
        assert control["kind"] in ("slider", "number", "radio") and formula.count("{}") >= 1
    else:
        assert {value for _, value in control["choices"]} == set(formula)


def test_the_page_is_told_formulas_by_the_labels_that_it_shows(controls):
    page = app.launch_options()["head"]
    for name in ("schedule", "sampler", "objective", "live-schedule"):
        for label, value in controls[name]["choices"]:
            if controls[name]["kind"] == "dropdown":
                assert f"{json.dumps(label)}: " in page, value


def test_a_choice_without_a_label_of_its_own_goes_by_its_value():
    page = head({"schedule": {"ve": "Exploding"}})
    assert '"Exploding": "\\u03b1 = 1' in page and '"slerp": ' in page
