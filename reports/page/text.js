// Text on the page. Whatever a model wrote is set as text nodes: nothing here parses markup.

const HIDDEN = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const LONG = 2000; // characters shown before somebody asks for more
const MOST_WORDS = 800; // compared word by word; longer texts are shown without marks

/** An element with properties, attributes (those with a dash, and role) and children. */
function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(given)) {
    if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** Text in which control and formatting characters, bidi marks and lone surrogates are visible. */
function visible(text) {
  const found = document.createDocumentFragment();
  let done = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > done) found.append(text.slice(done, match.index));
    found.append(el("span", { className: "hidden-character" }, code(match[0])));
    done = match.index + match[0].length;
  }
  found.append(text.slice(done));
  return found;
}

function code(character) {
  const point = character.codePointAt(0);
  if (point < 0x100) return `\\x${point.toString(16).padStart(2, "0")}`;
  return `\\u${point.toString(16).padStart(4, "0")}`;
}

/** One line of at most so many characters, for rows of a list. */
function brief(text, most = 160) {
  const line = text.slice(0, most + 1).replace(/\r?\n/g, " ⏎ ");
  const shown = line.replace(HIDDEN, code);
  return shown.length > most ? `${shown.slice(0, most - 1)}…` : shown;
}

/** A block of text; of a long one the beginning, and a button for the rest. */
function block(text, className = "text") {
  const made = el("div", { className, dir: "auto" });
  if (text.length <= LONG) {
    made.append(visible(text));
    return made;
  }
  const more = el("button", { type: "button", className: "quiet" });
  more.textContent = `Show all ${text.length.toLocaleString("en")} characters`;
  more.addEventListener("click", () => made.replaceChildren(visible(text)));
  made.append(visible(text.slice(0, LONG)), "… ", more);
  return made;
}

const words = (text) => text.match(/\s+|[\p{L}\p{M}\p{N}_]+|[^]/gu) ?? [];

/** [[same | del | ins, text], …] that turn one text into another; null where they are too long. */
function difference(before, after) {
  const a = words(before), b = words(after);
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) return null;
  const wide = b.length + 1;
  const common = new Uint16Array((a.length + 1) * wide); // of what follows, from the end
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i * wide + j] = a[i] === b[j]
        ? common[(i + 1) * wide + j + 1] + 1
        : Math.max(common[(i + 1) * wide + j], common[i * wide + j + 1]);
    }
  }
  const found = [];
  const say = (kind, text) => {
    if (found.length && found.at(-1)[0] === kind) found.at(-1)[1] += text;
    else found.push([kind, text]);
  };
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) say("same", a[i++], j++);
    else if (i < a.length && (j === b.length || common[(i + 1) * wide + j] >= common[i * wide + j + 1])) say("del", a[i++]);
    else say("ins", b[j++]);
  }
  return found;
}

/** `after` with what differs from `before` marked, what is missing in it struck through. */
function marked(before, after) {
  const changes = after.length > LONG ? null : difference(before, after);
  if (!changes) return block(after, "text answer");
  if (!changes.some(([kind, text]) => kind === "same" && text.trim())) {
    return el("div", { className: "text answer", dir: "auto" }, el("ins", {}, visible(after)));
  }
  const made = el("div", { className: "text answer", dir: "auto" });
  for (const [kind, text] of changes) {
    made.append(kind === "same" ? visible(text) : el(kind, {}, visible(text)));
  }
  return made;
}

/** What lies gzipped and in base64 in a script element, as JSON says it. */
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(plain).text());
}
