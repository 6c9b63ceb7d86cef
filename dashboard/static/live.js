// A request that goes on: the server sends the part of the page that changes. Hidden pages let go
// of the connection, for a browser has few of them, and take it up again when they are looked at.
const live = document.getElementById("live");
let stream = null;

function follow() {
  if (stream || document.hidden || !live.dataset.events) return;
  const lost = document.getElementById("connection");
  const mine = new EventSource(live.dataset.events);
  stream = mine;
  mine.addEventListener("open", () => { lost.hidden = true; });
  mine.addEventListener("state", (event) => {
    lost.hidden = true;
    // The first state is mostly that of the page: replacing it would swallow a click under way.
    const next = document.createElement("template");
    next.innerHTML = JSON.parse(event.data);
    if (next.innerHTML.trim() === live.innerHTML.trim()) return;
    const focused = document.activeElement?.closest("#live form")?.getAttribute("action");
    const boxes = [...live.querySelectorAll("input[type=checkbox]")].map((box) => [box.name, box.checked]);
    const opened = live.querySelector("details[open]") !== null;
    live.replaceChildren(next.content);
    for (const [name, checked] of boxes) {
      const box = live.querySelector(`input[name="${CSS.escape(name)}"]`);
      if (box) box.checked = checked;
    }
    if (focused) live.querySelector(`form[action="${CSS.escape(focused)}"] button`)?.focus();
    if (opened) live.querySelector("details")?.setAttribute("open", "");
  });
  mine.addEventListener("end", () => {
    leave();
    delete live.dataset.events;
  });
  mine.addEventListener("gone", () => location.reload());
  mine.addEventListener("error", () => {
    if (stream !== mine) return;
    lost.hidden = false;
    // The browser tries again by itself unless it was answered, as by a proxy without a server.
    if (mine.readyState !== EventSource.CLOSED) return;
    leave();
    setTimeout(follow, 3000);
  });
}

function leave() {
  stream?.close();
  stream = null;
}

if (live) {
  follow();
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", follow);
}
