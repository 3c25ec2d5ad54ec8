"""The playground in a real browser, against a server that writes what it is told (fake_server.py)."""

import shutil

import fake_server
import pytest
from pages import opened

sync_api = pytest.importorskip(
    "playwright.sync_api", reason='the browser is driven by playwright: pip install "trivium[dev]"'
)
expect = sync_api.expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
NASTY = '<img src=x onerror="window.hacked=1"> <b>bold</b> &amp; ünï ☃\n  twice'


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("the playground is tested in a Chromium, and there is none on this machine (apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def server():
    server = fake_server.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser, server):
    with opened(
        browser, f"http://127.0.0.1:{server.server_address[1]}", viewport={"width": 1200, "height": 800}
    ) as page:
        expect(page.locator("#model option")).to_have_count(len(fake_server.MODELS))
        yield page


def send(page, text: str, model: str = "echo") -> None:
    page.select_option("#model", model)
    page.fill("#draft", text)
    page.press("#draft", "Control+Enter")


def finished(page, turns: int = 1) -> None:
    expect(page.locator(".facts:not(:empty)")).to_have_count(turns)


def sent(server, path: str) -> list[dict]:
    return [body for where, body in server.seen if where == path]


def test_a_completion_is_sent_with_the_settings_and_shown(page, server):
    page.fill("#temperature", "0.5")
    page.fill("#top-p", "0.9")
    page.fill("#length", "7")
    page.fill("#seed", "42")
    expect(page.locator("output[for=length]")).to_have_text("7")
    send(page, "one two three")
    finished(page)
    (body,) = sent(server, "/v1/completions")
    wanted = {"model": "echo", "prompt": "one two three", "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": 42}
    assert wanted.items() <= body.items()
    assert body["stream"] is True
    assert page.locator(".answer").inner_text() == "one two three"
    for fact in ("4 tokens", "came to its end", "temperature 0.5", "top-p 0.9", "seed 42"):
        expect(page.locator(".facts")).to_contain_text(fact)
    expect(page.locator("#draft")).to_have_value("")
    page.get_by_role("button", name="Go on from here").click()
    expect(page.locator("#draft")).to_have_value("one two threeone two three")


def test_without_a_seed_each_answer_has_its_own(page, server):
    send(page, "a")
    finished(page)
    send(page, "a")
    finished(page, 2)
    one, two = (body["seed"] for body in sent(server, "/v1/completions"))
    assert one != two
    assert 0 <= one < 2**32


def test_an_impossible_seed_is_not_sent(page, server):
    page.fill("#seed", "-1")
    send(page, "a")
    page.wait_for_timeout(300)
    assert sent(server, "/v1/completions") == []


def test_a_chat_sends_the_whole_conversation(page, server):
    page.get_by_text("Chat", exact=True).click()
    page.fill("#system", "Be brief.")
    send(page, "Hello there")
    finished(page)
    send(page, "And now?")
    finished(page, 2)
    assert sent(server, "/v1/chat/completions")[1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello there"},
        {"role": "assistant", "content": "Hello there"},
        {"role": "user", "content": "And now?"},
    ]
    page.locator("button:visible", has_text="Try again").click()  # only the last answer can be asked for again
    finished(page, 2)
    assert sent(server, "/v1/chat/completions")[2]["messages"] == sent(server, "/v1/chat/completions")[1]["messages"]
    send(page, "   ")
    page.wait_for_timeout(200)
    assert len(sent(server, "/v1/chat/completions")) == 3  # nothing was said
    page.get_by_role("button", name="Clear the page").click()
    send(page, "Anew")
    finished(page)
    assert len(sent(server, "/v1/chat/completions")[3]["messages"]) == 2


@pytest.mark.parametrize("how", ["key", "button"])
def test_an_answer_streams_and_stops(page, server, how):
    page.fill("#length", "300")
    send(page, "on and on", model="slow")
    page.locator(".answer .token").nth(3).wait_for()
    early = page.locator(".answer .token").count()
    page.locator(".answer .token").nth(early + 3).wait_for()
    expect(page.locator("#turns")).to_have_attribute("aria-busy", "true")
    send(page, "not while another is written", model="slow")
    if how == "key":
        page.keyboard.press("Escape")
    else:
        page.get_by_role("button", name="Stop").click()
    finished(page)
    expect(page.locator(".facts")).to_contain_text("stopped by you")
    assert server.hung_up.wait(5)  # the server is told, and need not write on
    assert len(sent(server, "/v1/completions")) == 1
    assert page.locator(".answer .token").count() < 300
    expect(page.locator("#turns")).not_to_have_attribute("aria-busy", "true")


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("mode", ["Completion", "Chat"])
def test_what_is_written_is_text_and_never_html(page, mode, shown):
    page.get_by_text(mode, exact=True).click()
    page.set_checked("#show-tokens", shown)
    send(page, NASTY)
    finished(page)
    page.locator(".answer .token:visible").first.hover()
    expect(page.locator("#inspector")).to_contain_text("<i>")
    if not shown:
        assert page.locator(".answer").inner_text() == NASTY
        snow = page.locator(".answer .token", has_text=r"\x98\x83").locator(".text")
        expect(snow).to_have_text("☃")  # of two tokens; the others keep their own text
    assert page.locator("img, #turns b, #inspector i").count() == 0
    assert page.evaluate("window.hacked") is None


def test_tokens_are_shown_with_ids_and_what_else_could_have_stood_there(page):
    send(page, "one two\nthree")
    finished(page)
    token = page.locator(".answer .token").nth(1)
    assert page.locator(".answer .id:visible").count() == 0
    token.hover()  # as text too
    inspector = page.locator("#inspector")
    expect(inspector).to_contain_text("60.0%, before temperature")
    page.check("#show-tokens")
    token.hover()
    answer = [*fake_server.tokens("one two\nthree"), fake_server.END]
    ids = page.locator(".answer .token:visible .id").all_inner_texts()
    assert ids == [str(number) for number, _, _ in answer]
    assert page.locator(".answer .piece").all_inner_texts() == ["one", "·two", "↵", "three", "<|end|>"]
    expect(page.locator(".answer .special")).to_have_text("<|end|>2")
    expect(page.locator(".read .special")).to_have_text("<start>0")  # which the server puts before a text
    assert page.locator(".bars .name").all_inner_texts() == ["·two", "·maybe", "<i>", "all others"]
    assert page.locator(".bars .percent").all_inner_texts() == ["60.0%", "25.0%", "10.0%", "5.0%"]
    fills = page.locator(".bars .fill").evaluate_all(
        "all => all.map(fill => fill.offsetWidth / fill.parentElement.offsetWidth)"
    )
    assert fills == pytest.approx([0.6, 0.25, 0.1, 0.05], abs=0.02)
    page.locator(".read .token").nth(1).hover()
    expect(inspector).to_contain_text("it was given, not drawn")
    page.mouse.move(600, 500)
    expect(inspector).to_be_hidden()


def test_in_a_chat_the_whole_conversation_is_shown_as_it_is_read(page):
    page.get_by_text("Chat", exact=True).click()
    page.check("#show-tokens")
    send(page, "one two three four five")
    finished(page)
    send(page, "six")
    finished(page, 2)
    said = ["one two three four five", "one two three four five", "six"]
    messages = [{"content": text} for text in said]
    ids = page.locator(".read .token:visible .id").all_inner_texts()
    assert ids == [str(number) for number, _, _ in fake_server.conversation(messages)]
    assert page.locator("h2:visible").all_inner_texts() == ["You", "echo", "All that the model reads", "echo"]


@pytest.mark.parametrize("shown", [False, True])
def test_calls_of_tools_and_results_are_boxes_in_the_answer(page, server, shown):
    page.get_by_text("Chat", exact=True).click()
    page.set_checked("#show-tokens", shown)
    send(page, "one two three", model="tools")
    finished(page)
    boxes = page.locator(".answer .part")
    told = ["calls pythonprint(1)\n<b>2</b>", "gets1 <i>", "calls something: the arguments are not JSONpython"]
    assert boxes.all_text_contents() == told
    if not shown:
        lines = page.locator(".answer").inner_text().split("\n")
        assert lines[-2:] == ["one two three", "calls something: the arguments are not JSONpython"]
    assert page.locator("#turns b, #turns i").count() == 0  # what they say is text
    send(page, "and?", model="tools")
    finished(page, 2)
    (_, answer, _) = sent(server, "/v1/chat/completions")[1]["messages"]
    parts = [fake_server.CALL, fake_server.RESULT, fake_server.BROKEN | {"at": len("one two three")}]
    assert answer == {"role": "assistant", "content": "one two three", "parts": parts}


def test_tokens_can_be_read_with_the_keyboard_alone(page):
    send(page, "one two\nthree")
    finished(page)
    page.locator("#show-tokens").focus()
    page.keyboard.press("Space")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("Boolean(document.activeElement.closest('.answer'))"):
            break
    for expected in ("one", "·two", "↵", "three", "<|end|>", "<|end|>"):  # there is none after the last
        expect(page.locator("#inspector b")).to_have_text(expected)
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#inspector b")).to_have_text("three")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Escape")
    expect(page.locator("#inspector")).to_be_hidden()


def test_the_draft_is_counted_while_it_is_typed(page):
    page.fill("#draft", "one two")
    expect(page.locator("#draft-count")).to_have_text("2 tokens")
    page.check("#show-tokens")
    expect(page.locator("#draft-tokens .piece")).to_have_text(["one", "·two"])
    page.fill("#draft", "")
    expect(page.locator("#draft-count")).to_have_text("")


@pytest.mark.parametrize(
    ("model", "told", "kept"),
    [
        ("refuses", "the prompt has 9 tokens <b>too many</b>: shorten it", ""),
        ("breaks", "the model was lost", "one two three"),
        ("cut", "ended the answer in the middle", "one two three"),
    ],
)
def test_errors_are_told_and_nothing_is_lost(page, server, model, told, kept):
    send(page, "one two three four", model=model)
    expect(page.get_by_role("alert")).to_contain_text(told)
    if kept:
        assert page.locator(".answer").inner_text() == kept
        expect(page.locator(".facts")).to_contain_text("failed")
    else:
        expect(page.locator("#draft")).to_have_value("one two three four")  # to be mended
        expect(page.locator(".turn")).to_have_count(0)
    page.get_by_role("button", name="Clear the page").click()
    send(page, "fine")
    finished(page)
    expect(page.locator("#error")).to_be_hidden()


def test_a_server_that_wants_a_key(browser):
    server = fake_server.start(key="secret")
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_address[1]}")
    expect(page.get_by_role("alert")).to_contain_text("the API key is missing or wrong")
    expect(page.get_by_role("button", name="Write")).to_be_disabled()
    page.get_by_label("API key").fill("secret")
    page.keyboard.press("Tab")
    expect(page.locator("#error")).to_be_hidden()
    send(page, "one two")
    finished(page)
    page.close()
    server.shutdown()
    server.server_close()


def test_a_server_that_is_gone(page):
    page.context.set_offline(True)
    send(page, "one")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    expect(page.locator("#draft")).to_have_value("one")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_it_fits_and_can_be_read(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 700})
    page.get_by_text("Chat", exact=True).click()
    send(page, f"{NASTY} {'unbroken' * 40}")
    finished(page)
    for shown in (False, True):
        page.set_checked("#show-tokens", shown)
        page.locator(".answer .token:visible").last.hover()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#inspector").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    for selector in ("body", ".quiet:visible", "#send", ".chat .prompt", "#inspector"):
        assert contrast(page, selector) >= 4.5, selector  # WCAG 2.1, 1.4.3


def contrast(page, selector: str) -> float:
    """The contrast ratio of an element's text and what lies behind it, as WCAG 2.1 defines it."""
    ink, paper = page.locator(selector).first.evaluate(
        """element => {
            const behind = (e) => {
                const colour = e ? getComputedStyle(e).backgroundColor : "rgb(255, 255, 255)";
                return colour.startsWith("rgba(0, 0, 0, 0") ? behind(e.parentElement) : colour;
            };
            return [getComputedStyle(element).color, behind(element)];
        }"""
    )

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(", ")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(ink), luminance(paper)))
    return (high + 0.05) / (low + 0.05)


def test_every_control_has_a_name(page):
    page.get_by_text("Chat", exact=True).click()
    for control in page.locator("input, select, textarea, button:visible").all():
        name = control.evaluate("e => e.labels?.[0]?.innerText || e.innerText || e.getAttribute('aria-label') || ''")
        assert name.strip(), control.evaluate("e => e.outerHTML")
