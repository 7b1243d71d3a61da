"""How tests read the console's pages: what a form would send, what the messages say."""

import re
from html import unescape


def inputs(page, url):
    """Return what the form to this address would send: names and values, in order."""
    form = re.search(rf'<form[^>]*action="{re.escape(url)}".*?</form>', page.text, re.DOTALL)[0]
    found = [
        (re.search(r'name="([^"]+)"', tag)[1], re.search(r'value="([^"]*)"', tag))
        for tag in re.findall(r"<input[^>]*>", form)
    ]
    return [
        (name, unescape(value[1]) if value else "")
        for name, value in found
        if name != "csrfmiddlewaretoken"
    ]


def asked(page, url):
    """Return the same by name, for a form with one value each."""
    return {name: value.strip() for name, value in inputs(page, url)}


def told(answer):
    return [(message.level_tag, str(message)) for message in answer.context["messages"]]
