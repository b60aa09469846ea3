// All answers, as columns: reading them, and choosing examples by them.

let data = null;

/** Make the columns ready: where each example's rows begin, which class is the right one. */
function prepare(loaded) {
  data = loaded;
  data.count = data.ids.length;
  data.correct = data.classes.indexOf("correct");
  data.place = new Map(data.ids.map((id, at) => [id, at]));
  for (const asked of data.evals) {
    asked.begin = new Int32Array(data.count + 1);
    if (asked.example) {
      for (const at of asked.example) asked.begin[at + 1]++;
      for (let at = 0; at < data.count; at++) asked.begin[at + 1] += asked.begin[at];
    } else {
      asked.begin.forEach((_, at) => { asked.begin[at] = at; });
    }
  }
  data.names = [...new Set(data.arms.map((arm) => arm.arm))];
  data.seeds = [...new Set(data.arms.map((arm) => String(arm.seed)))];
}

const text = (place) => (place < 0 ? "" : data.strings[place]);
const armAt = (name, seed = state.seed) => data.arms.find((arm) => arm.arm === name && String(arm.seed) === seed);
const evalOf = (name) => data.evals[armAt(name)?.eval];
const inputsOf = (at) => Object.fromEntries(data.fields.map((name, i) => [name, text(data.inputs[i][at])]));

/** The fields that tell examples apart; what all have in common is left out of the list. */
function telling() {
  data.telling ??= data.inputs.filter((column) => column.some((one) => one !== column[0]));
  return data.telling.length ? data.telling : data.inputs;
}

const asked = (at) => telling().map((column) => text(column[at])).join(" · ");

/** The rows of an evaluation that answer an example. */
function rowsOf(evaluation, at) {
  if (!evaluation) return [];
  const found = [];
  for (let row = evaluation.begin[at]; row < evaluation.begin[at + 1]; row++) found.push(row);
  return found;
}

function scoreAt(evaluation, row) {
  return evaluation.score ? evaluation.score[row] : +(evaluation.outcome[row] === data.correct);
}

/** The mean score of an arm's answers to an example; NaN without one. */
function meanScore(evaluation, at) {
  if (!evaluation) return NaN;
  const from = evaluation.begin[at], to = evaluation.begin[at + 1];
  let sum = 0;
  for (let row = from; row < to; row++) sum += scoreAt(evaluation, row);
  return to > from ? sum / (to - from) : NaN;
}

function isRight(evaluation, at) {
  return rowsOf(evaluation, at).every((row) => evaluation.outcome[row] === data.correct);
}

const CHANGES = {
  fixed: (a, b) => b > a,
  broken: (a, b) => b < a,
  right: (a, b) => a === 1 && b === 1,
  wrong: (a, b) => a === b && a < 1,
};

/** Which texts hold what is searched for: a flag each. */
function matching(query) {
  const low = query.toLowerCase();
  data.low ??= data.strings.map((one) => one.toLowerCase());
  return data.low.map((one) => one.includes(low));
}

function searchTest(query) {
  const hits = matching(query), low = query.toLowerCase();
  const evals = data.names.map(evalOf).filter(Boolean);
  const columns = [...data.inputs, data.gold];
  return (at) =>
    columns.some((column) => column[at] >= 0 && hits[column[at]]) ||
    data.ids[at].toLowerCase().includes(low) ||
    evals.some((one) => rowsOf(one, at).some((row) => hits[one.answer[row]] || hits[one.text[row]]));
}

function classTest(wanted, where) {
  const evals = (where === "*" ? data.names : [where || state.b]).map(evalOf).filter(Boolean);
  const index = data.classes.indexOf(wanted);
  const holds = wanted === "*wrong" ? (outcome) => outcome !== data.correct : (outcome) => outcome === index;
  return (at) => evals.some((one) => rowsOf(one, at).some((row) => holds(one.outcome[row])));
}

/** A ribbon of the flow: this class in the one arm, that in the other, at the same sample. */
function flowTest(old, after) {
  const a = evalOf(state.a), b = evalOf(state.b);
  const name = (evaluation, row) => (row === undefined ? "(not asked)" : data.classes[evaluation.outcome[row]]);
  return (at) => {
    const x = rowsOf(a, at), y = rowsOf(b, at);
    return Array.from({ length: Math.max(x.length, y.length) }, (_, i) => i)
      .some((i) => name(a, x[i]) === old && name(b, y[i]) === after);
  };
}

/** The places of the examples that pass all filters. */
function chosen() {
  const tests = [];
  if (state.q) tests.push(searchTest(state.q));
  if (state.slice) {
    const split = state.slice.indexOf("="), slice = data.slices[state.slice.slice(0, split)];
    const wanted = slice ? slice.values.indexOf(state.slice.slice(split + 1)) + 1 : 0;
    if (wanted) tests.push((at) => slice.codes[at] === wanted);
  }
  if (CHANGES[state.change]) {
    const a = evalOf(state.a), b = evalOf(state.b), test = CHANGES[state.change];
    tests.push((at) => test(meanScore(a, at), meanScore(b, at)));
  }
  if (state.class) tests.push(classTest(state.class, state.in));
  if (state.old && state.new) tests.push(flowTest(state.old, state.new));
  const found = [];
  for (let at = 0; at < data.count; at++) if (tests.every((test) => test(at))) found.push(at);
  return found;
}
