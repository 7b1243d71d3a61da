/* Keeps an open page of the console up to date: facts from the server, times by itself.
 *
 * Everything works without it. Changes are merged into the page, so that focus, checked boxes,
 * open details, selected text and scroll position stay.
 */

const live = document.getElementById("aa-live");
const language = document.documentElement.lang || undefined;
let skew = live ? Date.parse(live.dataset.now) - Date.now() : 0;

// Times: in the viewer's time zone and language; ages and countdowns go on.

const formats = {
  moment: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "long" }),
  clock: new Intl.DateTimeFormat(language, { timeStyle: "medium" }),
  age: new Intl.RelativeTimeFormat(language, { numeric: "always" }),
};
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function formatAge(seconds) {
  const past = Math.max(0, Math.floor(seconds));
  const [unit, length] = UNITS.find(([, length]) => past >= length) ?? UNITS.at(-1);
  return formats.age.format(-Math.floor(past / length), unit);
}

function formatRemaining(seconds) {
  const whole = Math.ceil(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function formatTime(element) {
  const at = Date.parse(element.dateTime);
  const ahead = (at - Date.now() - skew) / 1000;
  switch (element.dataset.aaAs) {
    case "moment":
    case "clock":
      return formats[element.dataset.aaAs].format(at);
    case "age":
      return formatAge(-ahead);
    case "countdown":
      if (ahead <= 0) return element.dataset.aaOver || formatRemaining(0);
      return ahead < 86400 ? formatRemaining(ahead) : element.textContent;
    default:
      return element.textContent;
  }
}

function updateTimes(root) {
  for (const element of root.querySelectorAll("time[data-aa-as]")) {
    const now = formatTime(element);
    if (element.textContent !== now) element.textContent = now;
  }
}

// Merge the fresh page into the open one, node by node; equal nodes are left alone.

const key = (node) => (node.nodeType === Node.ELEMENT_NODE && (node.dataset.key || node.id)) || "";

function merge(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) {
      old.removeAttribute(name);
    }
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let next = old.firstChild;
  const keyed = new Map([...old.children].map((child) => [key(child), child]));
  for (const wanted of [...fresh.childNodes]) {
    const known = key(wanted) ? keyed.get(key(wanted)) : next;
    if (!known || known.nodeName !== wanted.nodeName || key(known) !== key(wanted)) {
      old.insertBefore(wanted, next);
      continue;
    }
    if (known === next) next = next.nextSibling;
    else old.insertBefore(known, next);
    if (known.nodeType === Node.ELEMENT_NODE) merge(known, wanted);
    else if (known.nodeValue !== wanted.nodeValue) known.nodeValue = wanted.nodeValue;
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const [old, content] = [document, fresh].map((page) => page.getElementById("content-main"));
  const freshLive = fresh.getElementById("aa-live");
  skew = Date.parse(freshLive.dataset.now) - Date.now();
  live.dataset.tag = freshLive.dataset.tag;
  updateTimes(content);
  const focused = document.activeElement;
  merge(old, content);
  if (focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

// Refresh at a steady pace, never in a hidden tab, and say so when it fails.

const seconds = Number(live?.dataset.seconds) || 0;
const part = (name) => document.getElementById(`aa-live-${name}`);
let updated = Date.now();
let timer;
let paused = false;
let ended = false;
let refreshing = false;

function showTrouble(trouble) {
  const element = part("trouble");
  if (!trouble && element.hidden) return;
  const text = trouble && element.dataset[trouble].replace("{time}", formats.clock.format(updated));
  if (element.textContent !== text) element.textContent = text;
  element.hidden = part("reload").hidden = !trouble;
  document.getElementById("content-main").classList.toggle("aa-stale", Boolean(trouble));
}

function end(trouble) {
  ended = true;
  part("pause").hidden = true;
  showTrouble(trouble);
}

async function load() {
  try {
    const response = await fetch(location.href.split("#")[0], {
      headers: { "X-Console-Refresh": "1", "If-None-Match": live.dataset.tag },
      cache: "no-store",
      redirect: "manual",
      signal: AbortSignal.timeout(Math.max(5, seconds) * 1000),
    });
    if (response.type === "opaqueredirect") return end("signedOut");
    if ([401, 403, 404].includes(response.status)) return end("gone");
    if (response.status === 200) show(await response.text());
    else if (response.status !== 304) return showTrouble("late");
    updated = Date.now();
    showTrouble("");
  } catch {
    showTrouble("late");
  }
}

async function refresh() {
  if (refreshing) return;
  refreshing = true;
  clearTimeout(timer);
  await load();
  refreshing = false;
  schedule();
}

function schedule() {
  clearTimeout(timer);
  if (!paused && !ended && !document.hidden) timer = setTimeout(refresh, seconds * 1000);
}

function pause() {
  paused = !paused;
  part("pause").setAttribute("aria-pressed", String(paused));
  if (paused) clearTimeout(timer);
  else refresh();
}

function tick() {
  updateTimes(document);
  if (seconds) {
    const text = part("age").dataset.age.replace("{age}", formatAge((Date.now() - updated) / 1000));
    if (part("age").textContent !== text) part("age").textContent = text;
  }
}

tick();
setInterval(tick, 1000);
if (seconds) {
  part("pause").hidden = false;
  part("pause").addEventListener("click", pause);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused && !ended) refresh();
  });
  addEventListener("pageshow", (event) => event.persisted && !ended && refresh());
  schedule();
}
