// Start: the theme, then the figures, then the answers.

const THEMES = ["system", "light", "dark"];

function themeSwitch() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const keep = (theme) => { try { localStorage.setItem("tasklift-theme", theme); } catch { /* a private window */ } };
  let theme = "system";
  try { theme = localStorage.getItem("tasklift-theme") ?? "system"; } catch { /* as the system has it */ }
  const show = () => {
    if (!THEMES.includes(theme)) theme = "system";
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    keep(theme);
    show();
  });
  button.hidden = false;
  show();
}

/** On paper a closed fold says nothing; what was run belongs there. */
function forPaper() {
  const what = document.getElementById("what");
  let was = what.open;
  window.addEventListener("beforeprint", () => { was = what.open; what.open = true; });
  window.addEventListener("afterprint", () => { what.open = was; });
}

async function start() {
  forPaper();
  themeSwitch();
  const drawing = await unpacked("specs");
  figures = drawing.figures;
  const [a, b] = drawing.flows[0] ?? ["", ""];
  unchosen = { a, b };
  readState();
  axisSwitch();
  drawAll();
  prepare(await unpacked("answers"));
  unchosen = {
    a: a || data.names[0], b: b || data.names.at(-1), seed: data.seeds[0],
    axis: document.querySelector('input[name="axis"]')?.value ?? "",
  };
  readState();
  browse();
  flowSwitch(drawing.flows);
  if (state.ex) document.getElementById("examples").scrollIntoView();
  document.documentElement.dataset.ready = "yes";
}

start();
