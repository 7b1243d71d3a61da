/* The checkboxes of the list of breakers: selects the whole page, and counts the selected ones.
 *
 * Rows come and go as console.js refreshes the page.
 */

const content = document.getElementById("content-main");

function count() {
  const boxes = [...content.querySelectorAll("#aa-breakers tbody [name=names]:enabled")];
  const checked = boxes.filter((box) => box.checked).length;
  const all = document.getElementById("aa-select-all");
  const selection = document.getElementById("aa-selection");
  if (!all || !selection) return;
  all.checked = checked > 0 && checked === boxes.length;
  all.indeterminate = checked > 0 && checked < boxes.length;
  const text = checked ? selection.dataset.text.replace("{number}", checked.toLocaleString(document.documentElement.lang)) : "";
  if (selection.textContent !== text) selection.textContent = text;
}

content.addEventListener("change", (event) => {
  if (event.target.id === "aa-select-all") {
    for (const box of content.querySelectorAll("#aa-breakers tbody [name=names]:enabled")) {
      box.checked = event.target.checked;
    }
  }
  count();
});
new MutationObserver(count).observe(content, { childList: true, subtree: true });
addEventListener("pageshow", count);
