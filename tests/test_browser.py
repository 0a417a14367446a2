"""The page in a real browser: what a visitor does first, at the width of a desk and of a telephone."""

import json
import shutil
from urllib.parse import parse_qsl

import numpy as np
import pytest

import app
from tabs.talk import read_talk
from tabs.widgets.player import HEAD, Points, player
from tabs.widgets.recipes import link, race_link
from tabs.widgets.runs import Settings
from tabs.widgets.style import CSS

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright from PyPI")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on this machine")


@pytest.fixture(scope="module")
def url():
    page = app.build(app.load_models(), app.load_judges())
    _, address, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **app.launch_options())
    yield address
    page.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(params=[(1440, 900), (390, 844)], ids=["wide", "telephone"])
def page(request, url, browser):
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    page.foreign, page.wrong = [], []
    page.on("request", lambda r: page.foreign.append(r.url) if r.url.startswith("http") and url not in r.url else None)
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.goto(url)
    page.wait_for_selector("#forward-stage img")
    yield page
    assert page.wrong == []
    page.close()


def open_tab(page, name: str) -> None:
    """On a telephone the last tabs are behind the button at the end of the row."""
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def source(page, selector: str) -> str:
    return page.locator(selector).first.get_attribute("src")


def changed(page, selector: str, before: str, timeout: float = 20_000) -> str:
    """The src of the picture once it is another than `before`."""
    page.wait_for_function(
        "([s, b]) => { const e = document.querySelector(s); return e && e.getAttribute('src') !== b }",
        arg=[selector, before],
        timeout=timeout,
    )
    return source(page, selector)


def test_the_page_opens_filled_fits_its_width_and_fetches_nothing_from_outside(page):
    assert page.locator("h1").count() == 1
    assert page.locator("#forward-stage img").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    for image in page.locator("#forward-stage img").all():
        assert image.get_attribute("alt")
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .player")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.foreign == []


def test_dragging_t_changes_the_picture_and_ends_where_the_hand_stopped(page):
    slider, picture = page.locator("#t input[type=range]"), "#forward-stage img"
    before = source(page, picture)
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.35 * box["width"], y)
    page.mouse.down()
    for k in range(36, 81, 4):
        page.mouse.move(box["x"] + k / 100 * box["width"], y)
    page.mouse.up()
    changed(page, picture, before)
    value = float(slider.input_value())
    assert 0.7 < value < 0.9
    page.wait_for_function(f"document.querySelector('#forward-stage figcaption').innerText.includes('{value:.2f}')")


def test_arrow_keys_move_t_too(page):
    before = source(page, "#forward-stage img")
    page.locator("#t input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    changed(page, "#forward-stage img", before)


def test_the_reset_arrow_and_typed_numbers_move_the_picture_with_the_box(page):
    caption = "document.querySelector('#forward-stage figcaption').innerText"
    page.locator("#t input[type=number]").fill("0.8")
    page.wait_for_function(f"{caption}.includes('0.80')")
    page.locator("#t .reset-button").click()
    page.wait_for_function(f"{caption}.includes('0.35')")
    page.locator("#noise-seed input").fill("")  # emptied to type another: nothing to complain about
    page.wait_for_timeout(800)
    assert page.get_by_text("Noise seed must").count() == 0


def test_one_step_keeps_the_stage_as_high_as_it_was(page):
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .sheet")
    before = page.locator("#sample-stage").bounding_box()
    page.locator("#steps input[type=number]").fill("1")
    page.wait_for_function(
        "document.querySelector('#sample-stage .line').innerText.includes('1 network call ')", timeout=60_000
    )
    after = page.locator("#sample-stage").bounding_box()
    assert after["x"] == before["x"] and after["height"] < before["height"] + 60


def test_eight_steps_draw_sixteen_digits(page):
    open_tab(page, "Sample")
    grid = page.locator("#sample-stage .sheet").first
    before = grid.get_attribute("style")
    page.locator("#steps input[type=number]").fill("8")
    page.locator("#generate").click()
    page.wait_for_function(
        "document.querySelector('#sample-stage .done .line')?.innerText.includes('8 network calls')", timeout=60_000
    )
    assert grid.get_attribute("style") != before
    width, height = grid.evaluate(
        "async e => { const i = new Image(); i.src = e.style.backgroundImage.slice(5, -2); await i.decode();"
        " return [i.naturalWidth, i.naturalHeight] }"
    )
    assert (width, height) == (4 * 29 - 1, 8 * (4 * 29 - 1))  # eight frames of 4 x 4 digits of 28, and the gaps
    assert grid.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"


def test_a_number_typed_before_generate_is_pressed_makes_one_run(page):
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .done")
    page.locator("#steps input[type=number]").fill("30")
    page.locator("#generate").click()
    page.wait_for_selector("#sample-stage .running")
    page.wait_for_selector("#sample-stage .done", timeout=60_000)
    page.wait_for_timeout(800)
    assert page.locator("#sample-stage .done").is_visible()


def test_scrubbing_by_key_and_hand_moves_picture_and_line_and_asks_the_server_nothing(page):
    open_tab(page, "Sample")
    range_ = page.locator("#sample-stage .player input[type=range]")
    range_.wait_for()
    page.wait_for_timeout(500)  # what the page itself still fetches
    requests = []
    page.on("request", lambda r: requests.append(r.url) if r.url.startswith("http") else None)
    sheet, line = page.locator("#sample-stage .sheet").first, page.locator("#sample-stage .numbers")

    def offset():
        return sheet.evaluate("e => parseFloat(getComputedStyle(e).backgroundPositionY)")

    last, text = offset(), line.inner_text()
    count = int(range_.get_attribute("max")) + 1
    assert text.startswith(f"Step {count} of {count}")
    height = sheet.bounding_box()["height"]
    range_.focus()
    for key, k in {"ArrowLeft": count - 2, "ArrowRight": count - 1, "Home": 0, "End": count - 1}.items():
        page.keyboard.press(key)
        assert line.inner_text().startswith(f"Step {k + 1} of {count}")
        assert offset() == pytest.approx(-k * height) and range_.input_value() == str(k)
        assert range_.get_attribute("aria-valuetext").startswith(f"Step {k + 1} of")
    assert offset() == last and line.inner_text() == text
    box = range_.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert 0 < int(range_.input_value()) < count - 1
    page.keyboard.press("Home")
    page.keyboard.press("Space")  # plays to the end and stops there
    page.wait_for_function("document.querySelector('.player .play').innerText === 'Pause'")
    page.wait_for_function(f"document.querySelector('.player input').value === '{count - 1}'", timeout=20_000)
    page.wait_for_function("document.querySelector('.player .play').innerText === 'Play'")
    assert requests == []


def test_particles_are_drawn_where_they_are_and_move_with_the_scrubber(browser):
    frames = np.array([[[-0.5, 0.5]], [[0.5, -0.5]]])  # one particle, top left and then bottom right
    html = player([Points("particles", frames, (-1, 1, -1, 1), box=200)], ["first", "second"], start=0)
    page = browser.new_page()
    page.set_content(f"<head><style>{CSS}</style>{HEAD}</head><body></body>")
    page.evaluate("html => { document.body.innerHTML = html }", html)  # as a result arrives: its scripts would not run
    ink = """([x, y]) => document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data[3]"""
    page.wait_for_function("document.querySelector('canvas').width === 200")
    assert page.evaluate(ink, [50, 50]) > 0 and page.evaluate(ink, [150, 150]) == 0
    page.locator("input[type=range]").press("ArrowRight")
    assert page.evaluate(ink, [50, 50]) == 0 and page.evaluate(ink, [150, 150]) > 0
    assert page.locator(".numbers").inner_text() == "second"
    page.close()


def test_particles_are_drawn_in_a_square_of_any_size(browser):
    """A new canvas is 300 by 150: in a box of 300 its width is right already and its height is not."""
    page = browser.new_page()
    page.set_content(f"<head><style>{CSS}</style>{HEAD}</head><body></body>")
    html = player([Points("particles", np.zeros((1, 1, 2)), (-1, 1, -1, 1), box=300)], ["first"])
    page.evaluate("html => { document.body.innerHTML = html }", html)
    page.wait_for_function("document.querySelector('canvas').height === 300")
    page.close()


def test_a_click_enlarges_one_image_with_its_own_path_and_another_goes_back(page):
    open_tab(page, "Sample")
    sheets = page.locator("#sample-stage .sheet")
    sheets.first.wait_for()
    box = sheets.first.bounding_box()
    unit = box["width"] / (4 * 29 - 1)
    sheets.first.click(position={"x": (29 + 14) * unit, "y": (2 * 29 + 14) * unit})  # second column, third row
    shown = page.locator("#sample-stage [data-act=tile]")
    assert shown.evaluate("e => e.selectedOptions[0].text") == f"seed {7 + 9}, 9"
    for sheet in sheets.all():
        x, y = (float(sheet.evaluate(f"e => e.style.getPropertyValue('{v}')")) for v in ("--x", "--y"))
        assert (x, y) == (29, 58)
        side = sheet.bounding_box()
        assert side["width"] == side["height"] and side["width"] % 28 == 0
    page.keyboard.press("Escape")
    assert shown.input_value() == "" and sheets.first.bounding_box() == box


def test_the_path_is_there_at_once_is_scrubbed_without_the_server_and_changes_with_what_moves(page):
    open_tab(page, "Interpolate")
    stage = "#interpolate-stage .done"
    page.wait_for_selector(f"{stage} .player")
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    requests = []
    page.on("request", lambda r: requests.append(r.url) if r.url.startswith("http") else None)
    marker, line = page.locator(f"{stage} .lanes .at"), page.locator(f"{stage} .numbers")
    before = marker.bounding_box()["x"]
    page.locator(f"{stage} .player input[type=range]").press("ArrowRight")
    assert line.inner_text().startswith("Position 2 of 9") and marker.bounding_box()["x"] > before
    assert requests == []
    rows = source(page, f"{stage} .lanes img")
    page.locator("#way").get_by_test_id("lerp + class-radio-label").click()
    changed(page, f"{stage} .lanes img", rows, timeout=60_000)
    page.wait_for_function(
        "document.querySelector('#interpolate-stage .done .line')?.innerText.includes('lerp + class')", timeout=60_000
    )


def test_stop_acts_at_once_and_keeps_what_there_is(page):
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .done")
    page.locator("#steps input[type=number]").fill("250")
    page.locator("#generate").click()
    page.wait_for_timeout(500)  # the typed number has begun a run of its own, which the button's replaces
    page.wait_for_selector("#sample-stage .running img", timeout=60_000)
    page.locator("#stop").click()
    page.get_by_text("Stopped at").first.wait_for(timeout=20_000)
    page.wait_for_timeout(1000)  # a frame that was under way may still arrive, but no more than that
    text = page.locator("#sample-stage .line").first.inner_text()
    assert text.startswith("Stopped at step ")
    page.wait_for_timeout(1500)
    assert page.locator("#sample-stage .line").first.inner_text() == text
    page.locator("#steps input[type=number]").fill("4")
    page.locator("#generate").click()
    page.wait_for_selector("#sample-stage .done", timeout=60_000)


def test_what_is_wrong_is_said_on_the_page_and_the_next_try_works(page):
    open_tab(page, "Sample")
    page.locator("#seed input").fill("-4")
    page.locator("#generate").click()
    page.get_by_text("Seed must be a whole number").first.wait_for(timeout=20_000)
    assert page.locator("#sample-stage .sheet").count() == 3  # the old result is still there
    page.locator("#seed input").fill("4")
    page.locator("#generate").click()
    page.wait_for_function(
        "document.querySelector('#sample-stage .line').innerText.includes('seeds 4 to 19')", timeout=60_000
    )


def test_an_error_ends_the_wait(page):
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .done")
    page.locator("#seed input").fill("-3")
    page.locator("#generate").click()
    page.get_by_text("Seed must be a whole number").first.wait_for()
    page.wait_for_function("document.querySelector('#sample-stage').closest('.stage').dataset.run !== 'waiting'")


def test_three_samplers_race_and_are_scrubbed_by_network_calls_without_a_request(page):
    open_tab(page, "Compare")
    page.locator("#compare-stage .race.done").wait_for(timeout=60_000)
    page.locator("#lane-C-steps input[type=number]").fill("3")
    page.locator("#race").click()
    numbers = page.locator("#compare-stage .numbers")
    numbers.get_by_text("C: finished: 3 steps, 3 calls").last.wait_for(timeout=60_000)
    page.locator("#compare-stop").click()
    page.get_by_text("Stopped. Reference run of the ODE").wait_for()
    page.wait_for_timeout(500)
    requests = []
    page.on("request", lambda r: requests.append(r.url) if r.url.startswith("http") else None)
    page.locator("#compare-stage input[type=range]").focus()
    for keys, calls, lane in (
        ("Home", 1, "step 1 of 3"),
        ("ArrowRight", 2, "step 2 of 3"),
        ("ArrowRight", 3, "finished"),
    ):
        page.keyboard.press(keys)
        assert numbers.inner_text().startswith(f"After {calls} network call")
        assert f"A: step {calls} of 12" in numbers.inner_text() and f"C: {lane}" in numbers.inner_text()
    assert requests == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_a_link_opens_tab_and_settings_and_runs_them_and_copies_itself(page, url):
    settings = Settings("mnist", "3", "heun", 4, 1.5, 21, 2, 0.0, "t")
    page.goto(url + link(settings))
    line = "document.querySelector('#sample-stage .done .line')?.innerText"
    what = "Heun (ODE) · 4 steps · 7 network calls × 2 (guided) · guidance 1.5 · seeds 21 to 22"
    page.wait_for_function(f"{line}.includes('{what}')", timeout=60_000)
    page.wait_for_function(
        "document.querySelector('#sample-stage [data-copy-link]')?.dataset.copyLink.includes('cls=3')"
    )
    assert page.locator("#class label.selected").inner_text() == "3"
    assert page.locator("#steps input[type=number]").input_value() == "4"
    copied = page.locator("#sample-stage .done [data-copy-link]").get_attribute("data-copy-link")
    assert dict(parse_qsl(copied[1:])) == dict(parse_qsl(link(settings)[1:]))


def test_a_picture_made_here_brings_its_settings_back_when_it_is_dropped(page, tmp_path):
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .done")
    line = "document.querySelector('#sample-stage .done .line')?.innerText"
    before = " · ".join(page.evaluate(line).split(" · ")[:5])  # all but the time it took
    for kind in ("png", "gif"):
        with page.expect_download() as download:
            page.locator(f"#sample-stage .actions a[download$={kind}]").click()
        download.value.save_as(tmp_path / f"a.{kind}")
    page.locator("button.label-wrap", has_text="More").click()
    for steps, kind in ((3, "png"), (4, "gif")):
        page.locator("#steps input[type=number]").fill(str(steps))
        page.wait_for_function(f"{line}.includes('{steps} network calls')", timeout=60_000)
        page.locator(".drop input[type=file]").set_input_files(tmp_path / f"a.{kind}")
        page.wait_for_function(f"{line}.startsWith('{before}')", timeout=60_000)
        page.locator(".drop").get_by_label("Clear").click()


def test_a_link_that_cannot_be_run_says_why_and_the_page_works(page, url):
    page.goto(url + link(Settings("huge")))
    page.get_by_text("This recipe is of a model 'huge'").first.wait_for()
    page.wait_for_selector("#sample-stage .done")  # the tab that it asked for, as it is without a link


def test_an_upload_that_cannot_be_read_is_said_so_and_does_not_stay(page, tmp_path):
    open_tab(page, "Interpolate")
    line = "document.querySelector('#interpolate-stage .line')?.innerText"
    page.wait_for_function(f"{line}?.length > 20")
    (tmp_path / "bad.png").write_text("no picture")
    with page.expect_file_chooser() as chooser:
        page.locator("#upload-a").click()
    chooser.value.set_files(tmp_path / "bad.png")
    page.get_by_text("bad.png is not a picture").first.wait_for()
    page.locator("button.label-wrap:visible", has_text="More").click()
    page.locator("#path-guidance input[type=number]").fill("3.5")
    page.wait_for_function(
        "document.querySelector('#interpolate-stage').innerText.includes('guidance 3.5')", timeout=60_000
    )


def test_a_link_repeats_a_race(page, url):
    race = {"A": Settings("mnist", "3", "ddim", 5, count=2), "B": Settings("mnist", "3", "heun", 3, count=2)}
    page.goto(url + race_link(race))
    page.wait_for_selector("#compare-results .lanes-table td:has-text('5 × 2')", timeout=60_000)
    page.wait_for_selector("#compare-stage .race.done")
    assert (
        page.locator("#compare-stage .lane-name.ddim").count()
        and page.locator("#compare-class .selected").inner_text() == "3"
    )
    copied = page.locator("#compare-stage [data-copy-link]").get_attribute("data-copy-link")
    assert dict(parse_qsl(copied[1:])) == dict(parse_qsl(race_link(race)[1:]))


def test_a_box_with_a_fraction_of_a_step_takes_the_whole_ones(page):
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .done")
    page.locator("#steps input[type=number]").fill("4.5")
    page.keyboard.press("Enter")
    line = "document.querySelector('#sample-stage .done .line')?.innerText"
    page.wait_for_function(f"{line}.includes('· 4 steps')", timeout=60_000)


def test_another_model_shows_its_own_samples(page):
    open_tab(page, "Sample")
    page.wait_for_selector("#sample-stage .done")
    page.locator("#steps input[type=number]").fill("3")
    page.keyboard.press("Enter")
    page.locator("#sample-model input").click()
    page.get_by_role("option", name="sprites").click()
    page.wait_for_selector("#sample-stage .done .actions a[download^='sprites-all-dpmpp_2m-3']", timeout=60_000)


def test_a_damaged_link_to_a_race_opens_its_tab_and_says_what_is_wrong(page, url):
    page.goto(url + "?tab=compare&race=no+json")
    page.get_by_text("This link is damaged").first.wait_for()
    page.wait_for_selector("#compare-stage .race.done", timeout=60_000)  # the race that the tab opens with


def test_a_link_to_a_tab_that_there_is_not_says_so_and_opens_the_first(page, url):
    page.goto(url + "?tab=smaple")
    page.get_by_text("There is no tab smaple; there are forward, sample, compare").first.wait_for()
    page.wait_for_selector("#forward-stage img")


def test_what_stands_in_the_field_for_a_picture_stands_under_its_label(page):
    open_tab(page, "Sample")
    page.locator(".controls:visible .label-wrap").click()
    page.locator(".drop").scroll_into_view_if_needed()
    label, text = (page.evaluate(BOX_OF_TEXT, f".drop {part}") for part in ("label", "[data-testid=upload-text]"))
    assert label["bottom"] <= text["top"] and text["bottom"] <= page.locator(".drop").bounding_box()["y"] + 92


BOX_OF_TEXT = """selector => {
  const range = document.createRange();
  range.selectNodeContents(document.querySelector(selector));
  return range.getBoundingClientRect().toJSON();
}"""


def test_an_images_seed_and_class_can_be_used_alone(page):
    open_tab(page, "Sample")
    page.locator("#sample-stage .sheet").first.wait_for()
    page.locator("#sample-stage [data-act=tile]").select_option("3")  # seed 7 + 3, class 3
    page.locator("#sample-stage [data-use]").click()
    line = "document.querySelector('#sample-stage .done .line')?.innerText"
    page.wait_for_function(f"{line}.includes('seeds 10 to 25')", timeout=60_000)
    page.wait_for_function("document.querySelector('#class label.selected').innerText === '3'")
    assert page.locator("#sample-stage [data-act=tile] option").nth(1).inner_text() == "seed 10, 3"


def test_a_field_is_learned_on_the_page_and_stop_keeps_it(page):
    open_tab(page, "Score")
    page.wait_for_selector("#score-stage svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    page.locator("#train-score").click()
    page.wait_for_selector("#score-stage .busy", timeout=60_000)
    page.locator("#stop-score").click()
    page.wait_for_function(
        "!document.querySelector('#score-stage .busy')"
        " && !document.querySelector('#score-stage .line').innerText.includes('shipped')",
        timeout=60_000,
    )
    assert "Sliced, variance reduced" in page.locator("#score-stage .line").first.inner_text()
    page.locator("#run-score").click()
    page.locator("#score-particles .note").get_by_text("the field learned in").wait_for(timeout=60_000)


def test_particles_are_scrubbed_without_the_server(page):
    open_tab(page, "Score")
    page.wait_for_selector("#score-particles canvas")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    numbers = page.locator("#score-particles .numbers p:not([hidden])")
    assert "200 calls" in numbers.inner_text()
    page.locator("#score-particles input[type=range]").focus()
    page.keyboard.press("Home")
    assert " 0 calls" in numbers.inner_text()
    assert [url for url in asked if "heartbeat" not in url] == []


def test_clicks_into_the_plane_become_the_data(page):
    open_tab(page, "Score")
    plane = page.locator("#score-stage svg.clickable rect.ground")
    for count, (x, y) in enumerate([(0.25, 0.25), (0.75, 0.5)], 1):
        box = plane.bounding_box()
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_function(
            f"document.querySelector('#score-stage .note').innerText.includes('({count} of them)')", timeout=20_000
        )
    placed = json.loads(page.locator("#own-points textarea").input_value())
    assert np.abs(np.subtract(placed, [[-5, 5], [5, 0]])).max() < 0.2
    page.locator("#undo-point").click()
    page.wait_for_function("document.querySelector('#score-stage .note').innerText.includes('(1 of them)')")
    page.locator("#clear-points").click()
    page.wait_for_function("document.querySelectorAll('#score-stage svg.square').length === 1")


def test_the_talk_goes_from_its_first_stop_to_its_last_by_key_and_leaves_the_page_as_it_was(page):
    stops = len(read_talk())
    page.locator("#present").click()
    for k in range(stops):
        page.wait_for_function(
            f"(e => e && !e.querySelector('.busy'))(document.querySelector('#stop-{k} .slide'))", timeout=180_000
        )
        slide = page.locator(f"#stop-{k} .slide")
        assert slide.is_visible() and page.locator("#talk .slide:visible").count() == 1
        assert "cannot be shown" not in slide.inner_text()
        if page.viewport_size["width"] > 960:  # a stop fits the screens that talks are given on
            for width, height in ((1280, 720), (1440, 900)):
                page.set_viewport_size({"width": width, "height": height})
                assert page.evaluate("document.querySelector('#talk').scrollHeight") <= height
        page.keyboard.press("PageDown")
    assert page.locator(f"#stop-{stops - 1} .slide").is_visible()  # after the last there is nothing
    page.keyboard.press("ArrowLeft")
    assert page.locator(f"#stop-{stops - 2} .slide").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#talk").is_hidden() and page.locator("#forward-stage img").first.is_visible()
    assert page.foreign == []


def test_a_formula_follows_its_control_and_one_switch_hides_them_all(page):
    open_tab(page, "Sample")
    formula = page.locator("#guidance .formula")
    formula.wait_for()
    assert "+ 2 (" in formula.inner_text()
    page.locator("#guidance input[type=number]").fill("3.5")
    page.wait_for_function("document.querySelector('#guidance .formula').innerText.includes('+ 3.5 (')")
    page.locator("#sampler input").click()
    page.get_by_role("option", name="DDIM").click()
    page.wait_for_function("document.querySelector('#sampler .formula').innerText.includes('η')")
    page.locator("#explanations input").uncheck()
    assert formula.is_hidden() and page.locator("#sampler .info-text").is_hidden()


def test_a_second_visitor_sees_that_the_run_waits_for_its_turn_and_both_get_their_images(page, url, browser):
    other = browser.new_page()
    other.goto(url)
    line = "document.querySelector('#sample-stage .done .line')?.innerText"
    for visitor in (page, other):
        visitor.wait_for_selector("#forward-stage img")
        open_tab(visitor, "Sample")
        visitor.wait_for_selector("#sample-stage .done")
    other.locator("#steps input[type=number]").fill("90")
    other.locator("#generate").click()
    other.wait_for_selector("#sample-stage .running")
    page.locator("#steps input[type=number]").fill("9")
    page.locator("#generate").click()
    waiting = page.locator(".stage[data-run=waiting] #sample-stage")
    waiting.wait_for()
    other.wait_for_function(f"{line}?.includes('· 90 network calls')", timeout=60_000)
    page.wait_for_function(f"{line}?.includes('· 9 network calls × 2')", timeout=60_000)
    assert waiting.count() == 0
    other.close()


def test_samples_are_judged_on_the_page_beside_real_images_and_noise_and_join_the_table(page):
    open_tab(page, "Evaluate")
    page.wait_for_selector("#evaluate-stage .result")  # the shipped one
    page.locator("#evaluate-n input[type=number]").fill("50")
    page.locator("#evaluate").click()
    page.wait_for_function(
        "document.querySelector('#evaluate-stage .line:has(+ .result)')?.innerText.includes('n = 50 ')",
        timeout=120_000,
    )
    scale = page.locator("#evaluate-stage .scale").inner_text()
    assert "real images" in scale and "noise" in scale
    assert "not an FID" in page.locator("#evaluate-stage").inner_text()
    page.locator("#evaluate-table").get_by_text("this visit").first.wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_losses_are_drawn_and_follow_their_controls(page):
    open_tab(page, "Training")
    page.wait_for_selector("#training-history svg.plot")
    words = "document.querySelector('#training-history').textContent"  # which has the plots' words too
    page.locator("#log-axis input[value=seconds]").check()
    page.wait_for_function(f"{words}.includes('minutes, log scale')")
    page.locator("#logged-runs").get_by_label("mnist").uncheck()
    page.wait_for_function(f"!{words}.includes('MNIST') && {words}.includes('CIFAR-10')")
    page.locator("#closely input[value=cifar10]").check()
    page.wait_for_function(
        "document.querySelector('#training-closely').innerText.includes('cifar10: where it is hard')"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_a_run_in_the_page_can_be_stopped_and_used_by_its_visitor_alone(page, url, browser):
    open_tab(page, "Training")
    page.locator("#train-digits").click()
    page.wait_for_selector("#live-stage .growth img >> nth=2", timeout=60_000)  # the data, a row that stays, the latest
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    page.locator("#stop-digits").click()
    page.wait_for_selector(".stage[data-run=stopped] #live-stage .stop-word")
    line = page.locator("#live-stage .line").first.inner_text()
    assert "Stopped at" in line and "left" not in line
    page.locator("#use-digits").click()
    page.wait_for_selector("#sample-stage .note:has-text('of your visit only')", timeout=60_000)  # drawn by it
    model = page.get_by_label("Model").first
    name = model.input_value()
    assert name.startswith("digits, yours (")
    for tab, stage in (("Compare", "#compare-stage"), ("Interpolate", "#interpolate-stage")):
        open_tab(page, tab)
        page.wait_for_selector(stage)
        assert page.locator(".tabitem:visible").get_by_label("Model").first.input_value() == name
    other = browser.new_page()
    other.goto(url)
    other.wait_for_selector("#forward-stage img")
    open_tab(other, "Sample")
    other.get_by_label("Model").first.click()
    offered = other.get_by_role("option").all_inner_texts()
    assert any("mnist" in choice for choice in offered) and not any("yours" in choice for choice in offered)
    other.close()
