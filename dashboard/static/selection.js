// Forms marked `data-select` are lists with boxes: all of a page at once, how many are ticked and how
// much that is, and none left over when the browser comes back. Without it the boxes work as well.
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function bytes(number) {
  let unit = 0;
  while (number >= 1023.95 && unit < UNITS.length - 1) { number /= 1024; unit += 1; }
  return `${unit ? number.toFixed(1) : number}\u00a0${UNITS[unit]}`;
}

function rowsOf(form) {
  return [...form.querySelectorAll("td input[name=names]")];
}

function count(form) {
  const ticked = [...form.querySelectorAll("input[name=names]:checked")];
  const known = ticked.filter((box) => box.dataset.bytes);
  const sum = known.reduce((total, box) => total + Number(box.dataset.bytes), 0);
  const words = form.querySelector("[data-ticked]");
  if (words) words.textContent = ticked.length ? `${ticked.length} selected${known.length ? `, ${bytes(sum)}` : ""}` : "Nothing is selected.";
  const every = form.querySelector("[data-every]");
  if (!every) return;
  every.closest("[hidden]")?.removeAttribute("hidden");
  const of = rowsOf(form);
  every.checked = of.length > 0 && of.every((box) => box.checked);
  every.indeterminate = !every.checked && of.some((box) => box.checked);
}

function countAll(drop) {
  for (const form of document.querySelectorAll("form[data-select]")) {
    if (drop) for (const box of form.querySelectorAll("input[name=names]")) box.checked = false;
    count(form);
  }
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-select]");
  if (!form) return;
  if (event.target.matches("[data-every]")) for (const box of rowsOf(form)) box.checked = event.target.checked;
  // Who fills in a value means the action that it is for.
  const action = document.getElementById(event.target.dataset.for ?? "");
  if (action) action.checked = true;
  count(form);
});

window.addEventListener("pageshow", (event) => countAll(event.persisted));
document.addEventListener("swapped", () => countAll(false));
countAll(false);
