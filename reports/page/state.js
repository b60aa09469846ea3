// What the reader has chosen. It stands in the address behind #, so that a link shows the same.

const state = { a: "", b: "", axis: "", seed: "", q: "", change: "", class: "", in: "", slice: "", old: "", new: "", ex: "", against: "", prompt: "" };
const watchers = [];
let unchosen = {}; // what each key stands at before anything was chosen

function readState() {
  const told = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) state[key] = told.get(key) ?? unchosen[key] ?? "";
}

function choose(changes) {
  const old = { ...state };
  Object.assign(state, changes);
  const changed = new Set(Object.keys(state).filter((key) => old[key] !== state[key]));
  if (!changed.size) return;
  const told = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value !== (unchosen[key] ?? "")) told.set(key, value);
  }
  const hash = told.toString();
  history.replaceState(null, "", `#${hash}`);
  tell(changed);
}

function tell(changed) {
  for (const watcher of watchers) watcher(changed);
}

/** Call `react(keys)` now and whenever one of these keys changes. */
function watch(keys, react) {
  watchers.push((changed) => {
    if (keys.some((key) => changed.has(key))) react(changed);
  });
}

/** Tie a control to a key: it shows the state, and what is chosen there becomes the state. */
function tie(control) {
  const key = control.dataset.state;
  const event = control.type === "search" ? "input" : "change";
  control.addEventListener(event, () => choose({ [key]: control.value, ...(key === "a" || key === "b" ? { old: "", new: "" } : {}) }));
  const show = () => {
    if (control.value !== state[key]) control.value = state[key];
  };
  watch([key], show);
  show();
}

/** Fill a select with [value, label] pairs, or [group, [pairs]]. */
function fill(select, options) {
  const one = ([value, label]) => el("option", { value }, label);
  select.replaceChildren(...options.map(([head, rest]) =>
    Array.isArray(rest) ? el("optgroup", { label: head }, ...rest.map(one)) : one([head, rest])));
}

/** A reader follows a link to a state in the same tab, or goes back. */
window.addEventListener("hashchange", () => {
  if (!location.hash.includes("=")) return;
  readState();
  tell(new Set(Object.keys(state)));
});

/** Links inside the page move the view and leave the state in the address alone. */
document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  const goal = link && document.getElementById(link.getAttribute("href").slice(1));
  if (!goal) return;
  event.preventDefault();
  goal.scrollIntoView();
  goal.tabIndex = -1;
  goal.focus({ preventScroll: true });
});
