// Links and forms marked `data-swap` replace what is in the page instead of loading another one:
// the place on the page, the focus and what is typed stay. Whatever fails loads the address.
let newest = 0;
let shown = location.pathname + location.search;
let typing = 0;

async function swap(url, keep) {
  const mine = ++newest;
  shown = location.pathname + location.search;
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    const text = await answer.text();
    if (mine !== newest) return;
    if (!answer.ok) throw new Error(answer.statusText);
    const other = new DOMParser().parseFromString(text, "text/html");
    document.getElementById("main").replaceWith(other.getElementById("main"));
    document.title = other.title;
    document.dispatchEvent(new Event("swapped"));
    if (keep) document.querySelector(keep)?.focus({ preventScroll: true });
  } catch {
    if (mine === newest) location.assign(url);
  }
}

function show(url, keep) {
  history.pushState({ swapped: true }, "", url);
  return swap(url, keep);
}

function addressOf(form) {
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) if (value) url.searchParams.set(name, value);
  return url;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  // In a drawing, `href` is an object.
  show(new URL(link.getAttribute("href"), location.href).href, link.id ? `#${link.id}` : `a[href="${CSS.escape(link.getAttribute("href"))}"]`);
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-swap]")) return;
  event.preventDefault();
  const focused = document.activeElement;
  show(addressOf(event.target), focused.id ? `#${focused.id}` : "");
});

document.addEventListener("input", (event) => {
  const { form, id, type } = event.target;
  if (type !== "search" || !form?.matches("form[data-swap]")) return;
  clearTimeout(typing);
  typing = setTimeout(async () => {
    const url = addressOf(form);
    const typed = event.target.value;
    history.replaceState({ swapped: true }, "", url);
    await swap(url, "");
    const field = document.getElementById(id);
    if (!field) return;
    // What was typed while the answer came is not lost.
    field.value = event.target.value || typed;
    field.focus({ preventScroll: true });
    field.setSelectionRange(field.value.length, field.value.length);
  }, 250);
});

window.addEventListener("popstate", () => {
  // Jumps within the page come here too.
  if (shown !== location.pathname + location.search) swap(location.href, "");
});
