// Liveness and keys; every page works without this file.
const $ = (id) => document.getElementById(id), [feed, pause, fresh] = ["feed", "pause", "new"].map($);
const waiting = [];
const paused = () => pause.getAttribute("aria-pressed") === "true";
const show = () => {
  waiting.splice(0).forEach((html) => feed.insertAdjacentHTML("afterbegin", html));
  while (feed.children.length > 200) feed.lastElementChild.remove();
  fresh.hidden = true;
};
const toggle = () => { pause.setAttribute("aria-pressed", String(!paused())); if (!paused()) show(); };
if (feed) {
  const source = new EventSource(feed.dataset.source);
  source.addEventListener("entries", ({ data }) => {
    $("first")?.classList.add("lit");
    waiting.push(data);
    if (!paused()) return show();
    const count = waiting.join("").split("<li ").length - 1;
    fresh.textContent = fresh.dataset[count === 1 ? "one" : "many"].replace("{n}", count);
    fresh.hidden = false;
  });
  source.addEventListener("trust", ({ data }) => { $("trust").innerHTML = data; });
  pause.hidden = false;
  pause.onclick = fresh.onclick = toggle;
}
let before = "";
document.addEventListener("keydown", (event) => {
  const { key, target } = event, go = document.querySelector(before === "g" ? `[data-go="${CSS.escape(key)}"]` : `[data-key="${CSS.escape(key)}"]`);
  if (document.body.dataset.keys !== "on" || event.ctrlKey || event.metaKey || event.altKey || target.closest("input,select,textarea")) return;
  before = key;
  if (go) go.click();
  else if (key === "/") $("search").focus();
  else if (key === "?" && $("keys")) { $("keys").open = !$("keys").open; $("keys").firstElementChild.focus(); }
  else if (key === "t") $("next-theme").requestSubmit();
  else if (key === "." && pause) toggle();
  else return;
  event.preventDefault();
});
