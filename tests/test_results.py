"""What the Evaluate tab makes of results: tables and sentences that say no more than was measured."""

import re

from tabs.widgets.results import ladder_html


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
