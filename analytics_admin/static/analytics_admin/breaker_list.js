/* The ticks of the breakers' list: all of the page at once, and how many there are.
 *
 * Without it each is ticked by itself. Rows come and go as console.js refreshes the page.
 */

const content = document.getElementById("content-main");

function count() {
  const boxes = [...content.querySelectorAll("#aa-breakers tbody [name=names]:enabled")];
  const ticked = boxes.filter((box) => box.checked).length;
  const all = document.getElementById("aa-select-all");
  const told = document.getElementById("aa-selection");
  if (!all || !told) return;
  all.checked = ticked > 0 && ticked === boxes.length;
  all.indeterminate = ticked > 0 && ticked < boxes.length;
  const words = ticked ? told.dataset.told.replace("{number}", ticked.toLocaleString(document.documentElement.lang)) : "";
  if (told.textContent !== words) told.textContent = words;
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
