"""What the Evaluate tab makes of results: tables and sentences that say no more than was measured."""

import re

import pytest

from tabs.widgets.plots import HEIGHT, WIDTH, Frame, Series, points
from tabs.widgets.results import guidance_plots, ladder_html


def result(
    sampler: str, steps: int, distance: float, guidance: float = 1.0, eta: float = 0.0, spacing: str = "lam"
) -> dict:
    plan = {"sampler": sampler, "steps": steps, "guidance": guidance, "eta": eta, "spacing": spacing}
    return {"plan": plan, "distance": distance, "interval": (0.9 * distance, 1.1 * distance), "n": 500}


def test_ddpm_and_ddim_stand_side_by_side_with_the_steps_that_are_enough():
    page = ladder_html(
        [
            result("ddim", 10, 4.0), result("ddim", 50, 2.0), result("ddpm", 10, 9.0), result("ddpm", 100, 2.1),
            result("ddim", 20, 1.0, guidance=2.0), result("ddim", 20, 1.0, eta=1.0), result("heun", 20, 1.0),
            result("ddim", 10, 1.0, spacing="t"),
        ]
    )  # fmt: skip
    rows = [re.findall(r"<t[hd]>([^<]*)", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    assert rows[1:] == [["10 steps", "4", "9"], ["100 steps", "–", "2.1"]]
    assert "n = 500" in page and "Best: 2, DDIM in 50 steps. Within 10 % of it: DDIM 50 steps, DDPM 100 steps." in page


def test_without_any_result_of_ddpm_there_is_nothing_to_compare():
    assert ladder_html([result("ddim", 10, 4.0)]) == ""


def test_a_sampler_that_never_comes_near_is_said_to():
    assert "DDIM 10 steps, DDPM never." in ladder_html([result("ddim", 10, 1.0), result("ddpm", 10, 9.0)])


# The plots --------------------------------------------------------------------------------------------------------


def named(plot: str) -> dict[str, tuple[float, float, str]]:
    """Where the series of a plot are named, and which end of the name is there."""
    texts = r'<text class="[^"]+" x="([^"]+)" y="([^"]+)" text-anchor="(start|end)">([^<]+)</text>'
    return {label: (float(x), float(y), end) for x, y, end, label in re.findall(texts, plot.split("</clipPath>")[1])}


def test_the_names_of_series_that_end_at_one_point_do_not_lie_on_each_other():
    frame = Frame((0, 10), (0, 10), "A title", "x")
    lines = [Series([1, 9.5], [1, 5], "ddim", "one"), Series([1, 9.5], [9, 5.1], "ddpm", "other")]
    (_, y1, end1), (_, y2, end2) = named(points(lines, frame, "Two")).values()
    assert end1 == end2 == "end" and abs(y1 - y2) >= 12


@pytest.mark.parametrize("before, above", [(2, True), (8, False)])
def test_a_name_that_ends_at_its_point_is_on_the_side_that_the_line_does_not_come_from(before, above):
    frame = Frame((0, 10), (0, 10), "A title", "x")
    ((_, y, end),) = named(points([Series([7, 10], [before, 5], "ddim", "a long name")], frame, "One")).values()
    assert end == "end" and (y < frame.y(5)) == above


def test_a_name_stays_inside_its_plot():
    for y in (0, 10):
        plot = points([Series([0, 10], [5, y], "ddim", "name")], Frame((0, 10), (0, 10), "A title", "x"), "One")
        ((x, py, end),) = named(plot).values()
        assert end == "end" and 40 < x < WIDTH and 10 < py < HEIGHT - 34


def test_each_way_to_sample_that_was_tried_at_several_guidances_has_its_line():
    tried = [result("dpmpp_2m", 18, 2.0, guidance=w) for w in (1, 2, 3)]
    tried += [result("reverse_sde", 50, 3.0, guidance=w) for w in (2, 3)] + [result("heun", 18, 1.0, guidance=2)]
    distances, shares = guidance_plots([r | {"accuracy": None, "precision": 0.5, "recall": 0.5} for r in tried])
    assert set(named(distances)) == {"DPM-Solver++(2M), 18 steps", "Euler-Maruyama (SDE), 50 steps"}
    assert "Shares in %: DPM-Solver++(2M), 18 steps" in shares and set(named(shares)) == {"precision", "recall"}
