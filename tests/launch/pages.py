"""A page in a browser, for the tests of pages."""

import contextlib


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
