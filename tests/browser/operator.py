"""An operator at a page of the console: with a mouse, or with a keyboard alone.

Knows what people do with hands, and nothing of the console's acts.
"""

from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

MOST_STEPS = 120
FOCUSED = "node => node === document.activeElement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """``how`` is "click" or "keyboard"; by the latter nothing is reached but by Tab."""

    page: Page
    how: str

    def press(self, name: str) -> None:
        """Press the button of this name."""
        button = self.page.get_by_role("button", name=name, exact=True)
        if self.how == "click":
            button.click()
        else:
            self._reach(button)
            self.page.keyboard.press("Enter")

    def tick(self, label: str) -> None:
        """Tick the box that is labelled so."""
        box = self.page.get_by_label(label, exact=True)
        if self.how == "click":
            box.check()
        else:
            self._reach(box)
            self.page.keyboard.press("Space")
        expect(box).to_be_checked()

    def pick(self, label: str) -> None:
        """Pick the one of several ways whose label holds these words."""
        way = self.page.get_by_role("radio", name=label)
        if self.how == "click":
            way.check()
        else:
            self._reach(self.page.locator("input[type=radio]:checked"))
            self._step(way, "ArrowDown", "node => node.checked")
        expect(way).to_be_checked()

    def choose(self, label: str, value: str) -> None:
        """Choose what stands for this value in a list."""
        choice = self.page.get_by_label(label)
        if self.how == "click":
            choice.select_option(value)
        else:
            self._reach(choice)
            self.page.keyboard.press("Home")
            self._step(choice, "ArrowDown", f"node => node.value === {value!r}")
        expect(choice).to_have_value(value)

    def write(self, label: str, text: str) -> None:
        """Put a text into an empty field."""
        field = self.page.get_by_label(label)
        if self.how == "click":
            field.fill(text)
        else:
            self._reach(field)
            self.page.keyboard.insert_text(text)
        expect(field).to_have_value(text)

    def _reach(self, wanted: Locator) -> None:
        expect(wanted).to_be_attached()
        self._step(wanted, "Tab", FOCUSED)

    def _step(self, wanted: Locator, key: str, arrived: str) -> None:
        for _ in range(MOST_STEPS):
            if wanted.evaluate(arrived):
                return
            self.page.keyboard.press(key)
        raise AssertionError(f"{wanted} is not reached by {key}")
