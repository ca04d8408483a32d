// Keeps a page up to date: server-sent events say that something changed, the page is asked for again, and the parts
// marked data-live are taken over from it. Without this script every page works; it is then as of when it was loaded.
"use strict";

const LEAST_MS = 250; // between two refreshes
const TICK_MS = 5000;

// --- times

const SPANS = [[120, 1, "s"], [7200, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "d"]];

function ago(date) {
  const seconds = Math.max(0, (Date.now() - date.getTime()) / 1000);
  if (seconds < 5) return "just now";
  const [, divisor, unit] = SPANS.find(([limit]) => seconds < limit);
  return `${Math.round(seconds / divisor)} ${unit} ago`;
}

function showTimes(root) {
  for (const element of root.querySelectorAll("time[data-ago], time[data-clock]")) {
    const date = new Date(element.dateTime);
    const text = "clock" in element.dataset ? date.toLocaleTimeString([], {hourCycle: "h23"}) : ago(date);
    if (element.textContent !== text) element.textContent = text;
    element.title = date.toLocaleString();
  }
}

// --- taking over what has changed

function isBusy(element) {
  const active = document.activeElement;
  return element.contains(active) && active.matches("input, select, textarea");
}

function takeOver(old, fresh) {
  const before = new Map([...saying(old)].map((one) => [one.id, one.dataset.say]));
  const open = [...old.querySelectorAll("details[open][id]")].map((one) => one.id);
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceWith(fresh);
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  if (focused) document.getElementById(focused)?.focus({preventScroll: true});
  showTimes(fresh);
  const news = [...saying(fresh)].filter((one) => before.has(one.id) && before.get(one.id) !== one.dataset.say);
  for (const one of news) one.classList.add("changed");
  return news.map((one) => one.dataset.say);
}

function* saying(root) {
  if (root.matches("[data-say]")) yield root;
  yield* root.querySelectorAll("[data-say]");
}

let refreshing = false;
let again = false;

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  try {
    const answer = await fetch(location.href, {headers: {Accept: "text/html"}, cache: "no-store"});
    if (answer.redirected || answer.status === 404) {
      location.reload(); // logged out, or the device is gone
      return;
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.body.dataset.version = page.body.dataset.version;
    const said = [];
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || isBusy(old) || plain(old) === plain(fresh)) continue;
      said.push(...takeOver(old, document.adoptNode(fresh)));
    }
    if (said.length) document.getElementById("said").textContent = said.join(". ");
  } catch {
    // The hub cannot be reached; the event stream says so, and brings the next refresh.
  } finally {
    await new Promise((done) => setTimeout(done, LEAST_MS));
    refreshing = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

// What a part says, without what this script itself changes in it.
function plain(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) {
    time.textContent = "";
    time.removeAttribute("title");
    if ("seen" in time.dataset) time.removeAttribute("datetime");
  }
  for (const details of copy.querySelectorAll("details")) details.removeAttribute("open");
  for (const changed of copy.querySelectorAll(".changed")) changed.classList.remove("changed");
  for (const bare of copy.querySelectorAll('[class=""]')) bare.removeAttribute("class");
  copy.classList.remove("changed");
  return copy.innerHTML;
}

// --- events

function showLive(word, tone) {
  const element = document.getElementById("live");
  element.hidden = false;
  element.className = `live ${tone}`;
  document.getElementById("live-word").textContent = word;
}

function listen() {
  if (!document.querySelector("[data-live]")) return;
  const source = new EventSource("/api/v1/events");
  source.addEventListener("hello", (event) => {
    showLive("live", "on");
    // Something may have happened between the page and the stream, or while the stream was down.
    if (JSON.parse(event.data).version !== document.body.dataset.version) refresh();
  });
  source.addEventListener("device", refresh);
  source.addEventListener("revision", refresh);
  source.addEventListener("seen", (event) => {
    const {id, time_s: time} = JSON.parse(event.data);
    for (const element of document.querySelectorAll(`time[data-seen="${CSS.escape(id)}"]`)) {
      element.dateTime = new Date(time * 1000).toISOString();
    }
    showTimes(document);
  });
  source.addEventListener("error", () => {
    showLive("reconnecting", "off");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
  // A browser opens few connections to one server: pages that nobody looks at give theirs back.
  const leave = () => {
    if (document.visibilityState !== "hidden") return;
    source.close();
    document.removeEventListener("visibilitychange", leave);
    document.addEventListener("visibilitychange", listen, {once: true});
  };
  document.addEventListener("visibilitychange", leave);
  addEventListener("pagehide", () => source.close());
}

// --- small helps

addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// A note in the address is shown once, not again after a reload.
if (new URLSearchParams(location.search).has("note")) {
  const url = new URL(location.href);
  url.searchParams.delete("note");
  history.replaceState(null, "", url);
}

addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
showTimes(document);
setInterval(() => showTimes(document), TICK_MS);
listen();
