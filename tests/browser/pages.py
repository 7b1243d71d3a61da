"""What tests of several pages ask of the site and of the page, in Python and JavaScript."""

NEWEST_ROW = """
import json
from analytics_admin.models import Operation
print(json.dumps(Operation.objects.values("kind", "status", "channel", "actor", "reason").first()))
"""

# The lowest contrast of text against its background among the console's own parts.
LOWEST_CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = node => {
    for (; node; node = node.parentElement) {
      const color = rgb(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const parts = document.querySelectorAll(
    '.aa-badge, .aa-verdict, .aa-facts dt, .aa-facts dd, .aa-operations .button, ' +
    '.aa-table th, .help');
  return Math.min(...[...parts].filter(part => part.offsetParent).map(part => {
    const [a, b] = [light(rgb(getComputedStyle(part).color)), light(background(part))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}"""
