// The browser of answers: a list of which only the rows in sight exist, and one example beside it.

const list = { shown: [], height: 44, chosen: -1 };
const rows = document.getElementById("rows");
const one = document.getElementById("one");

function browse() {
  fillFilters();
  document.querySelectorAll("#browser [data-state], #flow [data-state]").forEach(tie);
  document.getElementById("f-reset").addEventListener("click", () =>
    choose({ q: "", change: "", class: "", in: "", slice: "", old: "", new: "" }));
  document.getElementById("examples-wait").hidden = true;
  document.getElementById("browser").hidden = false;
  const room = el("div", { className: "room", role: "presentation" });
  rows.replaceChildren(room);
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; showRows(); });
  };
  rows.addEventListener("scroll", soon, { passive: true });
  window.addEventListener("resize", () => { measure(); soon(); });
  rows.addEventListener("keydown", byKey);
  rows.addEventListener("click", (event) => {
    const row = event.target.closest("[data-at]");
    if (row) pick(+row.dataset.at, true);
  });
  watch(["q", "change", "class", "in", "slice", "old", "new", "a", "b", "seed"], filter);
  watch(["ex", "seed", "against", "prompt", "a"], showOne);
  measure();
  filter();
  showOne();
  if (list.chosen >= 0) reveal(list.shown.indexOf(list.chosen));
}

function fillFilters() {
  const arms = data.names.map((name) => [name, brief(name, 60)]);
  for (const id of ["f-a", "f-b", "flow-from", "flow-to"]) {
    const select = document.getElementById(id);
    if (select) fill(select, arms);
  }
  fill(document.getElementById("f-change"), [["", "any"], ["fixed", "fixed"], ["broken", "broken"], ["right", "right in both"], ["wrong", "no better, not right"]]);
  const classes = data.classes.filter((name) => name !== "correct").map((name) => [name, brief(name, 60)]);
  fill(document.getElementById("f-class"), [["", "any"], ["correct", "correct"], ["*wrong", "any failure"], ...classes]);
  fill(document.getElementById("f-in"), [["", "the second arm"], ["*", "any arm"], ...arms]);
  const slices = Object.entries(data.slices).map(([name, { values }]) =>
    [brief(name, 60), values.map((value) => [`${name}=${value}`, brief(value, 60)])]);
  fill(document.getElementById("f-slice"), [["", "all"], ...slices]);
  document.getElementById("f-slice").parentElement.hidden = !slices.length;
  fill(document.getElementById("f-seed"), data.seeds.map((seed) => [seed, seed]));
  document.getElementById("seed-label").hidden = data.seeds.length < 2;
  const alone = data.names.length < 2;
  for (const id of ["f-a", "f-b", "f-change", "f-in"]) document.getElementById(id).parentElement.hidden = alone;
}

function measure() {
  for (const element of [rows, document.getElementById("rows-head")]) {
    element.style.setProperty("--marks", `${Math.max(3.6, data.names.length * 1.05)}em`);
  }
  list.height = parseFloat(getComputedStyle(rows).getPropertyValue("--row")) || 44;
}

function filter() {
  list.shown = chosen();
  const all = data.count.toLocaleString("en"), some = list.shown.length.toLocaleString("en");
  const drawn = data.of > data.count ? ` (drawn at random from ${data.of.toLocaleString("en")})` : "";
  const flow = state.old && state.new ? `, from ${brief(state.old, 40)} to ${brief(state.new, 40)}` : "";
  document.getElementById("count").textContent = `${some} of ${all} examples${drawn}${flow}`;
  document.getElementById("rows-head").replaceChildren(...headOf());
  rows.firstChild.style.height = `${list.shown.length * list.height}px`;
  rows.scrollTop = 0;
  showRows();
}

function headOf() {
  const two = data.names.length > 1 ? [state.a, state.b] : [state.b];
  return [el("span", {}, "asked"), el("span", {}, "gold"), ...two.map((name) => el("span", {}, brief(name, 40))), el("span", { className: "marks" }, "all arms")];
}

function showRows() {
  const first = Math.max(0, Math.floor(rows.scrollTop / list.height) - 6);
  const last = Math.min(list.shown.length, Math.ceil((rows.scrollTop + rows.clientHeight) / list.height) + 6);
  const made = [];
  for (let i = first; i < last; i++) made.push(rowOf(i, list.shown[i]));
  rows.firstChild.replaceChildren(...made);
  if (list.chosen >= 0) rows.setAttribute("aria-activedescendant", `row-${list.chosen}`);
  else rows.removeAttribute("aria-activedescendant");
}

function rowOf(i, at) {
  const two = data.names.length > 1 ? [state.a, state.b] : [state.b];
  const made = el("div", {
    className: "row", id: `row-${at}`, role: "option", "aria-selected": String(at === list.chosen),
    "aria-setsize": list.shown.length, "aria-posinset": i + 1, "data-at": at,
  });
  made.style.transform = `translateY(${i * list.height}px)`;
  made.append(el("span", { className: "asked", dir: "auto" }, brief(asked(at))), el("span", { className: "gold", dir: "auto" }, brief(text(data.gold[at]), 80)));
  for (const name of two) made.append(cellOf(evalOf(name), at));
  const marks = el("span", { className: "marks" });
  for (const name of data.names) {
    const mark = markOf(evalOf(name), at);
    mark.title = brief(name, 60);
    marks.append(mark);
  }
  made.append(marks);
  return made;
}

function cellOf(evaluation, at) {
  const row = rowsOf(evaluation, at)[0];
  const made = el("span", { className: "given", dir: "auto" });
  if (row === undefined) return el("span", { className: "given soft" }, "not asked");
  made.append(markOf(evaluation, at), " ", brief(text(evaluation.answer[row]) || text(evaluation.text[row]), 80));
  return made;
}

/** ✓ right, ✗ wrong, ◐ some of its answers, or of its score. */
function markOf(evaluation, at) {
  const score = meanScore(evaluation, at);
  const [sign, kind, said] = Number.isNaN(score) ? ["·", "none", "not asked"]
    : isRight(evaluation, at) ? ["✓", "right", "right"]
    : score > 0 ? ["◐", "partly", "partly right"] : ["✗", "wrong", "wrong"];
  return el("span", { className: `mark ${kind}`, role: "img", "aria-label": said }, sign);
}

function byKey(event) {
  const page = Math.max(1, Math.floor(rows.clientHeight / list.height) - 1);
  const now = list.shown.indexOf(list.chosen);
  const goals = { ArrowDown: now + 1, ArrowUp: now - 1, PageDown: now + page, PageUp: now - page, Home: 0, End: list.shown.length - 1 };
  if (event.key === "Enter" && now >= 0) { one.focus(); event.preventDefault(); return; }
  if (!(event.key in goals) || !list.shown.length) return;
  event.preventDefault();
  const goal = Math.max(0, Math.min(list.shown.length - 1, goals[event.key]));
  pick(list.shown[goal], false);
  reveal(goal);
}

function reveal(place) {
  if (place < 0) return;
  const top = place * list.height;
  if (top < rows.scrollTop) rows.scrollTop = top;
  else if (top + list.height > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + list.height - rows.clientHeight;
  showRows();
}

function pick(at, follow) {
  choose({ ex: data.ids[at], prompt: "" });
  if (follow && one.getBoundingClientRect().top > innerHeight * 0.8) one.scrollIntoView({ block: "start" });
}

// One example.

function showOne() {
  list.chosen = data.place.get(state.ex) ?? -1;
  showRows();
  if (list.chosen < 0) {
    one.replaceChildren(el("p", { className: "note" }, "Choose an example to see what every arm answered."));
    return;
  }
  const at = list.chosen, inputs = inputsOf(at);
  const fields = Object.entries(inputs).map(([name, value]) => el("div", {}, el("dt", {}, brief(name, 60)), el("dd", {}, block(value))));
  const gold = el("div", {}, el("dt", {}, "gold"), el("dd", {}, block(text(data.gold[at]))));
  one.replaceChildren(
    el("h3", {}, brief(data.ids[at], 80)),
    el("dl", { className: "asked-of" }, ...fields, gold, ...metaOf(at)),
    againstSwitch(),
    ...data.names.map((name) => answerOf(name, at, inputs)),
  );
}

function metaOf(at) {
  let meta = {};
  try { meta = JSON.parse(text(data.meta[at]) || "{}"); } catch { /* shown as nothing */ }
  const told = Object.entries(meta).map(([key, value]) => `${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
  return told.length ? [el("div", {}, el("dt", {}, "meta"), el("dd", { className: "soft" }, block(told.join("  ·  "), "text small")))] : [];
}

function againstSwitch() {
  const select = el("select", { id: "against" });
  fill(select, [["", "the gold answer"], ...data.names.map((name) => [name, brief(name, 60)]), ["-", "nothing"]]);
  select.value = state.against;
  select.addEventListener("change", () => { choose({ against: select.value }); document.getElementById("against").focus(); });
  return el("p", { className: "controls" }, el("label", {}, "Mark differences from ", select));
}

function reference(at) {
  if (state.against === "-") return null;
  if (!state.against) return text(data.gold[at]);
  const evaluation = evalOf(state.against), row = rowsOf(evaluation, at)[0];
  return row === undefined ? null : text(evaluation.answer[row]) || text(evaluation.text[row]);
}

function answerOf(name, at, inputs) {
  const arm = armAt(name), evaluation = evalOf(name);
  const made = el("section", { className: "given-by" });
  const head = el("h4", {}, markOf(evaluation, at), " ", brief(name, 80));
  made.append(head);
  for (const row of rowsOf(evaluation, at)) made.append(givenAt(evaluation, row, at));
  if (arm && data.prompts[arm.prompt]) made.append(promptButton(arm, name, at, inputs));
  return made;
}

function givenAt(evaluation, row, at) {
  const name = data.classes[evaluation.outcome[row]], whole = text(evaluation.text[row]);
  const answer = text(evaluation.answer[row]), shown = answer || whole, like = reference(at);
  const made = el("div", { className: "sample" });
  made.append(like === null || !shown ? block(shown || "(nothing)", shown ? "text answer" : "text soft") : marked(like, shown));
  const score = evaluation.score ? `, score ${scoreAt(evaluation, row).toLocaleString("en")}` : "";
  const told = el("p", { className: "note" }, brief(name, 60) + score,
    ` · ${evaluation.tokens[row].toLocaleString("en")} tokens · ${brief(text(evaluation.finish[row]), 20)}`);
  if (data.meanings[name]) told.title = data.meanings[name];
  made.append(told);
  if (answer && whole.trim() !== answer.trim()) {
    made.append(el("details", { className: "fold" }, el("summary", {}, "The whole answer"), block(whole)));
  }
  const turns = evaluation.transcript ? text(evaluation.transcript[row]) : "";
  if (turns) made.append(conversation(JSON.parse(turns)));
  if (text(evaluation.feedback[row])) made.append(block(text(evaluation.feedback[row]), "text soft small"));
  return made;
}

/** What the model and its tools said to each other. */
function conversation(turns) {
  const results = turns.filter((turn) => turn.role === "tool");
  const calls = `${results.length} ${results.length === 1 ? "call" : "calls"}`;
  const made = el("details", { className: "fold" }, el("summary", {}, `The conversation, ${calls}`));
  for (const turn of turns) {
    const isTool = turn.role === "tool", name = isTool ? `tool ${brief(turn.name || "", 40)}` : "model";
    const said = turn.error ? `${name} (${brief(turn.error, 40)})` : name;
    made.append(el("div", { className: `message ${isTool ? "tool" : "assistant"}` }, el("b", {}, said), block(turn.content || "")));
  }
  return made;
}

function promptButton(arm, name, at, inputs) {
  const open = state.prompt === name;
  const button = el("button", { type: "button", className: "quiet", "aria-expanded": String(open) }, open ? "Hide the prompt" : "The exact prompt");
  button.setAttribute("aria-label", `${button.textContent} of ${brief(name, 60)}`);
  button.addEventListener("click", () => {
    choose({ prompt: open ? "" : name });
    one.querySelectorAll("[aria-expanded]")[data.names.filter((n) => data.prompts[armAt(n)?.prompt]).indexOf(name)]?.focus();
  });
  const made = el("div", { className: "sent" }, button);
  if (open) {
    const picked = data.nearest[arm.prompt]?.[at] ?? null;
    for (const { role, content } of messages(data.prompts[arm.prompt], inputs, picked)) {
      made.append(el("div", { className: `message ${role}` }, el("b", {}, role), block(content)));
    }
  }
  return made;
}
