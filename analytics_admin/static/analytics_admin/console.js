/* Keeps an open page of the console up to date: its facts from the server, its times by itself.
 *
 * Everything works without it; then a page is as old as it says. What changes is put into the
 * page as it stands, so that focus, ticks, open details, selected text and scroll stay.
 */

const live = document.getElementById("aa-live");
const language = document.documentElement.lang || undefined;
let skew = live ? Date.parse(live.dataset.now) - Date.now() : 0;

// Times: in the viewer's own zone and language; ages and countdowns go on.

const formats = {
  moment: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "long" }),
  clock: new Intl.DateTimeFormat(language, { timeStyle: "medium" }),
  age: new Intl.RelativeTimeFormat(language, { numeric: "always" }),
};
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function age(seconds) {
  const past = Math.max(0, Math.floor(seconds));
  const [unit, length] = UNITS.find(([, length]) => past >= length) ?? UNITS.at(-1);
  return formats.age.format(-Math.floor(past / length), unit);
}

function remaining(seconds) {
  const whole = Math.ceil(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function words(element) {
  const at = Date.parse(element.dateTime);
  const ahead = (at - Date.now() - skew) / 1000;
  switch (element.dataset.aaAs) {
    case "moment":
    case "clock":
      return formats[element.dataset.aaAs].format(at);
    case "age":
      return age(-ahead);
    case "countdown":
      if (ahead <= 0) return element.dataset.aaOver || remaining(0);
      return ahead < 86400 ? remaining(ahead) : element.textContent;
    default:
      return element.textContent;
  }
}

function tell(part) {
  for (const element of part.querySelectorAll("time[data-aa-as]")) {
    const now = words(element);
    if (element.textContent !== now) element.textContent = now;
  }
}

// The page as it stands becomes the fresh one, node by node; what is the same is not touched.

const key = (node) => (node.nodeType === Node.ELEMENT_NODE && (node.dataset.key || node.id)) || "";

function become(old, fresh) {
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
    if (known.nodeType === Node.ELEMENT_NODE) become(known, wanted);
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
  const news = fresh.getElementById("aa-live");
  skew = Date.parse(news.dataset.now) - Date.now();
  live.dataset.tag = news.dataset.tag;
  tell(content);
  const focused = document.activeElement;
  become(old, content);
  if (focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

// Looking what is new: at a steady pace, never in a hidden tab, and never silently in vain.

const seconds = Number(live?.dataset.seconds) || 0;
const part = (name) => document.getElementById(`aa-live-${name}`);
let updated = Date.now();
let timer;
let paused = false;
let ended = false;
let looking = false;

function complain(trouble) {
  const element = part("trouble");
  if (!trouble && element.hidden) return;
  const told = trouble && element.dataset[trouble].replace("{time}", formats.clock.format(updated));
  if (element.textContent !== told) element.textContent = told;
  element.hidden = part("reload").hidden = !trouble;
  document.getElementById("content-main").classList.toggle("aa-stale", Boolean(trouble));
}

function end(trouble) {
  ended = true;
  part("pause").hidden = true;
  complain(trouble);
}

async function look() {
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
    else if (response.status !== 304) return complain("late");
    updated = Date.now();
    complain("");
  } catch {
    complain("late");
  }
}

async function refresh() {
  if (looking) return;
  looking = true;
  clearTimeout(timer);
  await look();
  looking = false;
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
  tell(document);
  if (seconds) {
    const told = part("age").dataset.age.replace("{age}", age((Date.now() - updated) / 1000));
    if (part("age").textContent !== told) part("age").textContent = told;
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
