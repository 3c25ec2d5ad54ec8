"""The ranking page in a real browser: by keys alone, by dragging, by touch; several people; mistakes and lost servers."""

import contextlib
import json
import threading

import pytest
import test_playground
from rank_server import ask, played_sampler, prompts, serving
from serving import wait_for
from test_playground import contrast, expect

from data_pipeline.conversation import said
from data_pipeline.ranking_rows import read_rankings
from data_pipeline.set_aside import SetAside
from launch.ranking.rollouts import Rollout

browser = test_playground.browser
NASTY = '<img src=x onerror="window.hacked=1"> <b>bold</b> &amp; ünï ☃\n\n  twice ' + "unbroken" * 20


@pytest.fixture
def out(tmp_path):
    return tmp_path / "rankings.jsonl"


@pytest.fixture
def server(out):
    with serving(out, prompts(3)) as url:
        wait_for(lambda: ask(f"{url}/api/state?rater=x")[1]["task"])
        yield url


@contextlib.contextmanager
def opened(browser, url, query="", **context):
    """The page, open; whatever it asks of another origin, or fails at in silence, fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"} | context)
    context.set_default_timeout(8000)
    page = context.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{url}/{query}")
    yield page
    context.close()
    assert [each for each in asked if not each.startswith((url, "data:"))] == []
    assert failed == []


@pytest.fixture
def page(browser, server):
    with opened(browser, server, "?rater=Ada") as page:
        on_prompt(page, 0)
        yield page


def on_prompt(page, number):
    expect(page.locator("#prompt .said")).to_have_text(f"Prompt {number}")


def indices(page):
    """Which response stands where: the last word of what it says is its index."""
    return [int(text.split()[-1]) for text in page.locator(".card .said").all_inner_texts()]


def places(page):
    return page.locator(".place").evaluate_all("all => all.map(select => select.value)")


def saved(out):
    """(rater, prompt, groups of indices, the best first) of every ranking that stands."""
    rankings = read_rankings(str(out), SetAside(out.parent / "aside.jsonl"))
    return [
        (one.rater, one.prompt[-1].text, [[i for i, r in enumerate(one.ranks) if r == rank] for rank in range(5)])
        for one in rankings
    ]


def test_five_are_ordered_by_keys_alone(browser, server, out):
    with opened(browser, server) as page:
        expect(page.locator("#instructions h2")).to_have_text("Which answer is better?")
        expect(page.locator("#name")).to_be_focused()
        page.keyboard.type("Ada")
        page.keyboard.press("Enter")
        on_prompt(page, 0)
        assert page.url.endswith("?rater=Ada")
        shown = indices(page)
        for key in "35142":  # the focus goes on to the next without a place
            page.keyboard.press(key)
        ordered = [shown[i] for i in (2, 4, 0, 3, 1)]
        assert indices(page) == ordered
        assert places(page) == list("12345")
        page.keyboard.press("ArrowUp")  # the one that got its place last, and stands second
        ordered[0], ordered[1] = ordered[1], ordered[0]
        assert indices(page) == ordered
        expect(page.locator(".card").first).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        ordered[1], ordered[2] = ordered[2], ordered[1]
        assert indices(page) == ordered
        page.keyboard.press("Enter")
        on_prompt(page, 1)
        expect(page.locator("#status")).to_have_text("Saved.")
        assert saved(out) == [("Ada", "Prompt 0", [[each] for each in ordered])]
        page.reload()
        on_prompt(page, 1)  # the place in the session is kept
        expect(page.locator("#count")).to_have_text("1 of 3")
        page.keyboard.press("u")
        on_prompt(page, 0)
        assert indices(page) == ordered  # as it was saved, to be mended
        assert saved(out) == []
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        on_prompt(page, 1)
        ordered[0], ordered[1] = ordered[1], ordered[0]
        assert saved(out) == [("Ada", "Prompt 0", [[each] for each in ordered])]


def test_to_the_end_with_skips_and_back(page, out):
    page.keyboard.press("s")
    on_prompt(page, 1)
    for key in "12345":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    on_prompt(page, 2)
    page.keyboard.press("s")
    expect(page.locator("#rest")).to_have_text("That was all, thank you. You ranked 1 and passed over 2.")
    page.reload()
    expect(page.locator("#rest")).to_contain_text("That was all")  # what was skipped is remembered
    for number in (2, 1, 0):
        page.keyboard.press("u")
        on_prompt(page, number)
    expect(page.locator("#undo")).to_be_disabled()
    page.keyboard.press("u")
    expect(page.locator("#count")).to_have_text("0 of 3")
    assert saved(out) == []


def test_the_same_number_is_a_tie_and_moving_breaks_it(page, out):
    shown = indices(page)
    for key in "21225":
        page.keyboard.press(key)
    assert indices(page) == [shown[i] for i in (1, 0, 2, 3, 4)]
    assert places(page) == list("12225")
    expect(page.locator(".card.tied")).to_have_count(3)
    page.locator(".card").nth(3).focus()
    page.keyboard.press("ArrowUp")
    assert indices(page) == [shown[i] for i in (1, 0, 3, 2, 4)]
    page.locator(".card").nth(4).focus()
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    on_prompt(page, 1)
    # 3 came between 0 and 2, so that nothing is tied but the last two.
    assert saved(out)[0][2] == [[shown[1]], [shown[0]], [shown[3]], sorted([shown[2], shown[4]]), []]


@pytest.mark.parametrize("input", ["mouse", "touch"])
def test_five_are_ordered_by_dragging(browser, server, out, input):
    with opened(browser, server, "?rater=Ben", has_touch=input == "touch") as page:
        on_prompt(page, 0)
        shown = indices(page)
        drag(page, 4, 0, input)
        ordered = [shown[i] for i in (4, 0, 1, 2, 3)]
        assert indices(page) == ordered
        assert places(page) == list("12345")
        drag(page, 1, 3, input)
        ordered = [ordered[i] for i in (0, 2, 3, 1, 4)]
        assert indices(page) == ordered
        page.locator("#save").click()
        on_prompt(page, 1)
        assert saved(out) == [("Ben", "Prompt 0", [[each] for each in ordered])]


def drag(page, number, to, input):
    """Card `number` to where card `to` is, by its handle."""
    handle = page.locator(".grip").nth(number).bounding_box()
    goal = page.locator(".grip").nth(to).bounding_box()
    x = handle["x"] + handle["width"] / 2
    ys = [handle["y"] + 5 + (goal["y"] - handle["y"]) * step / 8 for step in range(9)]
    frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    if input == "mouse":
        page.mouse.move(x, ys[0])
        page.mouse.down()
        for y in ys[1:]:
            page.mouse.move(x, y)
            page.evaluate(frame)
        page.mouse.up()
        return
    client = page.context.new_cdp_session(page)
    for kind, y in [("touchStart", ys[0]), *(("touchMove", y) for y in ys[1:]), ("touchEnd", None)]:
        points = [] if y is None else [{"x": x, "y": y}]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.evaluate(frame)


def test_on_a_phone_there_are_buttons_and_a_list_of_places(browser, server, out):
    with opened(browser, server, "?rater=Eve", viewport={"width": 390, "height": 844}, has_touch=True) as page:
        on_prompt(page, 0)
        shown = indices(page)
        page.get_by_role("button", name="Move: better").nth(1).tap()
        assert indices(page) == [shown[i] for i in (1, 0, 2, 3, 4)]
        page.locator(".place").nth(4).select_option("1")
        assert places(page) == list("11234")
        page.locator("#save").tap()
        on_prompt(page, 1)
        assert saved(out)[0][2][0] == sorted([shown[1], shown[4]])


def test_two_raters_at_once(browser, server, out):
    with opened(browser, server, "?rater=Ada") as ada, opened(browser, server, "?rater=Ben") as ben:
        orders = {}
        for number in range(3):
            for name, page in (("Ada", ada), ("Ben", ben)):
                on_prompt(page, number)
                orders[name, f"Prompt {number}"] = indices(page)
                for key in "12345":
                    page.keyboard.press(key)
            for page in (ada, ben):
                page.keyboard.press("Enter")
                expect(page.locator("#count")).to_have_text(f"{number + 1} of 3")
    assert len(saved(out)) == 6
    for rater, prompt, groups in saved(out):
        assert groups == [[each] for each in orders.pop((rater, prompt))]


def test_nothing_is_saved_before_all_have_a_place(page, out):
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("5 responses have no place yet.")
    for key in "1234":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("One response has no place yet.")
    page.keyboard.press("9")  # there is no ninth place
    assert out.read_text() == ""
    page.keyboard.press("5")
    expect(page.get_by_role("alert")).to_be_hidden()
    for key in "1111":
        page.keyboard.press(key)


def test_all_ties_are_told(page, out):
    for _ in range(5):
        page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("all responses have the same place")
    assert out.read_text() == ""


def test_impatience_saves_once(page, out):
    for key in "12345":
        page.keyboard.press(key)
    page.evaluate("for (let i = 0; i < 5; i++) document.querySelector('#save').click()")
    on_prompt(page, 1)
    assert len(out.read_text().splitlines()) == 1
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_is_gone_for_a_while(page, out):
    for key in "12345":
        page.keyboard.press(key)
    ordered = indices(page)
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached, so nothing was saved")
    assert indices(page) == ordered
    page.context.set_offline(False)
    page.keyboard.press("Enter")
    on_prompt(page, 1)
    assert saved(out) == [("Ada", "Prompt 0", [[each] for each in ordered])]


def test_a_full_disk_is_told(browser, tmp_path):
    out = tmp_path / "rankings.jsonl"
    out.symlink_to("/dev/full")
    with serving(out, prompts(2)) as url, opened(browser, url, "?rater=Ada") as page:
        on_prompt(page, 0)
        for key in "12345":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("nothing was saved: No space left on device")
        expect(page.locator("#count")).to_have_text("0 of 2")
        on_prompt(page, 0)


def test_one_waits_for_what_is_being_written(browser, out):
    go = threading.Event()

    def slow(asked):
        go.wait(20)
        return played_sampler(asked)

    with serving(out, prompts(1), slow) as url, opened(browser, url, "?rater=Ada") as page:
        expect(page.locator("#rest")).to_contain_text("being written")
        go.set()
        on_prompt(page, 0)
        expect(page.locator(".card").first).to_be_focused()


@pytest.mark.parametrize("name", ["Łukasz 漢字", "'; drop table --", '<b>"x"</b> & y', "100% + ?rater=z#"])
def test_odd_names(browser, server, out, name):
    with opened(browser, server) as page:
        page.fill("#name", name)
        page.keyboard.press("Enter")
        on_prompt(page, 0)
        expect(page.locator("#who")).to_have_text(name)
        page.reload()
        expect(page.locator("#who")).to_have_text(name)
        page.keyboard.press("s")
        on_prompt(page, 1)
    assert json.loads(out.read_text())["rater"] == name


def test_a_name_that_is_none(browser, server):
    with opened(browser, server, "?rater=%00") as page:
        expect(page.get_by_role("alert")).to_contain_text("a name has 1 to 60 characters")
        page.fill("#name", "Ada")
        page.keyboard.press("Enter")
        on_prompt(page, 0)
        expect(page.get_by_role("alert")).to_be_hidden()


def nasty_sampler(asked):
    return [
        [Rollout(said("assistant", f"{NASTY} {i}" * (1 + 3 * (i == 2))), (1,), seed, i) for i in range(5)]
        for _, seed in asked
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_it_fits_and_can_be_read(browser, out, width, scheme):
    size = {"viewport": {"width": width, "height": 700}, "color_scheme": scheme}
    some = [(said("system", "Be brief."), said("user", NASTY))]
    with serving(out, some, nasty_sampler) as url, opened(browser, url, **size) as page:
        expect(page.locator("#instructions h2")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.fill("#name", "A" * 60)
        page.keyboard.press("Enter")
        page.locator(".card").first.wait_for()
        for key in "11345":
            page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        texts = page.locator(".card .said").all_inner_texts()
        assert sum(text.count("<b>bold</b>") for text in texts) == 8
        assert page.locator("#work img, #work b").count() == 0
        assert page.evaluate("window.hacked") is None
        for name in ("#save", "#skip"):
            box = page.locator(name).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        for selector in ("body", ".quiet:visible", "#save", ".card .said", ".tied .place", ".placed .place", "#skip"):
            assert contrast(page, selector) >= 4.5, selector  # WCAG 2.1, 1.4.3
        page.locator("#help").click()
        expect(page.locator("#manual-text h2")).to_be_visible()
        page.keyboard.press("s")  # a key for the page, which is behind
        page.keyboard.press("Escape")
        expect(page.locator(".card")).to_have_count(5)


def test_every_control_has_a_name(page):
    for control in page.locator("input, select, button:visible, .card, progress").all():
        name = control.evaluate("e => e.labels?.[0]?.innerText || e.getAttribute('aria-label') || e.innerText || ''")
        assert name.strip(), control.evaluate("e => e.outerHTML")
