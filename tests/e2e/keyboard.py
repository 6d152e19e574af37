"""The page with the keyboard alone, and where its focus is."""

from playwright.sync_api import Locator, Page, expect

_MOST_PRESSES = 90
# The element or what surrounds it closely has an outline, and is not covered by anything else.
_SEEN = """(inside) => {
  const element = document.activeElement;
  if (!element || element === document.body) return "the focus is lost";
  const told = element.outerHTML.slice(0, 120);
  if (inside && !element.closest(inside)) return `outside ${inside}: ${told}`;
  if (!element.matches(":focus-visible")) return `not visible: ${told}`;
  const around = [element, element.parentElement, element.parentElement.parentElement];
  const outlined = ({ outlineStyle, outlineWidth }) =>
    outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
  if (!around.some((each) => outlined(getComputedStyle(each)))) return `no outline: ${told}`;
  const { left, right, top, bottom } = element.getBoundingClientRect();
  const sides = [Math.max(left, 0), Math.min(right, innerWidth)];
  const heights = [Math.max(top, 0), Math.min(bottom, innerHeight)];
  if (sides[0] >= sides[1] || heights[0] >= heights[1]) return `off the screen: ${told}`;
  const inner = (from, to, share) => from + share * (to - from);
  const shares = [0.1, 0.5, 0.9];
  const found = shares.flatMap((x) =>
    shares.map((y) => document.elementFromPoint(inner(...sides, x), inner(...heights, y))));
  const own = (at) => at && (around.includes(at) || element.contains(at) || at.contains(element));
  return found.some(own) ? "" : `covered: ${told}`;
}"""


def focus_is_seen(page: Page, *, inside: str = "") -> None:
    """Assert that something has the focus, shows it, and is covered by nothing."""
    assert page.evaluate(_SEEN, inside) == ""


def tab_to(page: Page, target: Locator, *, back: bool = False) -> None:
    """Press Tab (or Shift and Tab) until `target` has the focus, which is seen all the way."""
    target.wait_for()
    for _ in range(_MOST_PRESSES):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue  # between the page's end and its beginning lies the browser itself
        focus_is_seen(page)
        if target.evaluate("element => element === document.activeElement"):
            return
    expect(target).to_be_focused()


def type_into(page: Page, field: Locator, text: str) -> None:
    """Reach a field with Tab and write this into it."""
    tab_to(page, field)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)
