"""What axe-core finds on a page that bars people from it.

What stock admin does on pages of its own is listed; nothing else is let through.
"""

from axe_playwright_python.sync_playwright import Axe

RULES = {
    "preload": False,  # what it would load, the content policy forbids
    "resultTypes": ["violations"],  # nobody asks for a selector of each element that is fine
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    },
}
# Of stock admin's own making: the links of its breadcrumbs on the section's index, and the label of
# a list's search field, which is an image.
STOCK = {"link-in-text-block: .breadcrumbs", "label-title-only: #searchbar"}
OF_STOCK_ADMIN = ("index", "operations")


def violations(name, page):
    """Return what axe finds on the page, as one line per element."""
    stock = tuple(STOCK) if name.startswith(OF_STOCK_ADMIN) else ()
    found = Axe().run(page, options=RULES).response["violations"]
    lines = [
        f"{rule['id']}: {node['target'][0]} {node['html'][:160]}"
        for rule in found
        for node in rule["nodes"]
    ]
    return [line for line in lines if not line.startswith(stock)]
