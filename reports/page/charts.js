// The figures: Vega-Lite, drawn when they come near the screen, the others when there is time.

const drawn = new Map(); // element -> promise of its view
let figures = {};

function shownTip(handlerBox) {
  return (_, event, __, value) => {
    if (value == null || value === "") { handlerBox.hidden = true; return; }
    const rows = typeof value === "object" ? Object.entries(value) : [["", String(value)]];
    handlerBox.replaceChildren(...rows.map(([key, said]) =>
      el("div", {}, el("span", {}, key), " ", el("b", {}, brief(String(said), 120)))));
    handlerBox.hidden = false;
    const { clientX: x, clientY: y } = event;
    const box = handlerBox.getBoundingClientRect();
    handlerBox.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    handlerBox.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 8))}px`;
  };
}

const tipBox = el("div", { className: "tip", hidden: true, "aria-hidden": "true" });
document.body.append(tipBox);

function draw(element) {
  if (drawn.has(element)) return drawn.get(element);
  const spec = figures[element.dataset.figure];
  if (!spec || !element.clientWidth) return null;
  const narrow = element.clientWidth < 480;
  const fitted = { ...spec, width: "container", autosize: { type: "fit-x", contains: "padding" } };
  const config = { ...spec.config, aria: false, legend: { ...spec.config.legend, columns: narrow ? 2 : 5 } };
  if (narrow) config.axis = { ...config.axis, labelLimit: 110 };
  const made = vegaEmbed(element, { ...fitted, config }, {
    actions: false, renderer: "svg", ast: true, defaultStyle: false, tooltip: shownTip(tipBox), mode: "vega-lite",
  }).then(({ view }) => {
    element.querySelector("svg")?.setAttribute("aria-hidden", "true"); // the element says what it is
    return view;
  });
  drawn.set(element, made);
  return made;
}

/** Show another figure in the same place. */
async function redraw(element, name) {
  if (element.dataset.figure === name && drawn.has(element)) return;
  const before = await drawn.get(element);
  before?.finalize();
  drawn.delete(element);
  element.dataset.figure = name;
  await draw(element);
}

function drawAll() {
  const all = [...document.querySelectorAll(".chart")];
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && draw(entry.target)) near.unobserve(entry.target);
    }
  }, { rootMargin: "400px" });
  all.forEach((element) => near.observe(element));
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 60));
  const next = () => {
    const left = all.find((element) => !drawn.has(element) && element.clientWidth);
    if (left) Promise.resolve(draw(left)).finally(() => idle(next));
    else document.documentElement.dataset.drawn = "all";
  };
  idle(next);
  for (const fold of document.querySelectorAll("details")) {
    fold.addEventListener("toggle", () => fold.querySelectorAll(".chart").forEach(draw));
  }
}

function axisSwitch() {
  const element = document.getElementById("learning-chart");
  if (!element) return;
  const choices = [...document.querySelectorAll('input[name="axis"]')];
  const show = () => {
    const wanted = choices.find((choice) => choice.value === state.axis) ?? choices[0];
    wanted.checked = true;
    return redraw(element, `learning_${wanted.value}`);
  };
  for (const choice of choices) choice.addEventListener("change", () => choose({ axis: choice.value }));
  watch(["axis"], show);
  const wanted = choices.find((choice) => choice.value === state.axis) ?? choices[0];
  wanted.checked = true;
  element.dataset.figure = `learning_${wanted.value}`;
}

// The flow between two arms.

function flowRows(pair) {
  const sets = Object.values(figures.flow.datasets);
  return (sets.find((rows) => rows.length && "a0" in rows[0]) ?? []).filter((row) => row.pair === pair);
}

function flowSwitch(pairs) {
  const element = document.getElementById("flow-chart");
  if (!element) return;
  const index = () => pairs.findIndex(([a, b]) => a === state.a && b === state.b);
  const show = async () => {
    const pair = index();
    element.hidden = pair < 0;
    const hint = document.getElementById("flow-hint");
    hint.textContent = pair < 0
      ? "These two have no flow between them: choose two different arms."
      : "A click on a ribbon lists its examples below.";
    flowTable(pair < 0 ? [] : flowRows(pair));
    if (pair < 0) return;
    const view = await draw(element);
    if (view) await view.signal("pair", pair).runAsync();
  };
  document.getElementById("flow-swap").addEventListener("click", () =>
    choose({ a: state.b, b: state.a, old: "", new: "" }));
  watch(["a", "b"], show);
  show();
  const ready = new MutationObserver(async () => {
    const view = drawn.has(element) && (await drawn.get(element));
    if (!view || element.dataset.ready) return;
    element.dataset.ready = "yes";
    view.addEventListener("click", (_, item) => item?.datum?.old && listFlow(item.datum));
    view.signal("pair", Math.max(0, index())).runAsync();
  });
  ready.observe(element, { childList: true, subtree: true });
}

function listFlow(row) {
  choose({ old: row.old, new: row.new, change: "", class: "", in: "", ex: "" });
  document.getElementById("examples").scrollIntoView();
}

function flowTable(rows) {
  const list = rows.toSorted((x, y) => y.count - x.count).map((row) => {
    const open = el("button", { type: "button", className: "quiet" }, "list");
    open.setAttribute("aria-label", `List the ${row.count} examples from ${brief(row.old, 40)} to ${brief(row.new, 40)}`);
    open.addEventListener("click", () => listFlow(row));
    return el("tr", {}, el("td", {}, brief(row.old, 60)), el("td", {}, brief(row.new, 60)),
      el("td", {}, row.kind), el("td", { className: "n" }, row.count.toLocaleString("en")), el("td", {}, open));
  });
  const head = ["before", "after", "what", "answers", ""].map((name) =>
    name ? el("th", { scope: "col", className: name === "answers" ? "n" : "" }, name) : el("td"));
  document.getElementById("flow-table").replaceChildren(
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...list)));
}
