// Liveness and keys; every page works without this file.
const $ = (id) => document.getElementById(id), [feed, pause, fresh] = ["feed", "pause", "new"].map($);
// As many as the list has at most: older ones would not stay in it. Each event holds one item or more.
const LIST_MAX = 200, waiting = [];
let count = 0;
const paused = () => pause.getAttribute("aria-pressed") === "true";
const show = () => {
  waiting.splice(0).forEach((html) => feed.insertAdjacentHTML("afterbegin", html));
  while (feed.children.length > LIST_MAX) feed.lastElementChild.remove();
  fresh.hidden = true;
  count = 0;
};
const toggle = () => { pause.setAttribute("aria-pressed", String(!paused())); if (!paused()) show(); };
let last = "";
const follow = () => {
  const url = new URL(feed.dataset.source, location);
  if (last) url.searchParams.set("after", last);
  const source = new EventSource(url);
  source.addEventListener("entries", ({ data, lastEventId }) => {
    last = lastEventId;
    $("first")?.classList.add("lit");
    waiting.push(data);
    if (waiting.length > LIST_MAX) waiting.shift();
    count += data.split("<li ").length - 1;
    if (!paused()) return show();
    fresh.textContent = fresh.dataset[count === 1 ? "one" : "many"].replace("{n}", count);
    fresh.hidden = false;
  });
  source.addEventListener("trust", ({ data }) => { $("trust").innerHTML = data; });
  source.onerror = () => {
    $("trust").textContent = `▲ ${$("trust").dataset.stale}`;
    // An answer that is no stream, as of a proxy during a restart, ends the attempts of the browser.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  };
};
if (feed) {
  follow();
  pause.hidden = false;
  pause.onclick = fresh.onclick = toggle;
}
let before = "";
document.addEventListener("keydown", (event) => {
  const { key, target } = event, go = document.querySelector(before === "g" ? `[data-go="${CSS.escape(key)}"]` : `[data-key="${CSS.escape(key)}"]`);
  if (document.body.dataset.keys !== "on" || event.ctrlKey || event.metaKey || event.altKey || target.closest("input,select,textarea")) return;
  before = key;
  if (go) go.click();
  else if (key === "/") $("search")?.focus();
  else if (key === "?" && $("keys")) { $("keys").open = !$("keys").open; $("keys").firstElementChild.focus(); }
  else if (key === "t") $("next-theme").requestSubmit();
  else if (key === "." && pause) toggle();
  else return;
  event.preventDefault();
});
