// The chat that was sent, as `tasks.types.Prompt.messages` writes it.

const capital = (name) => name.charAt(0).toUpperCase() + name.slice(1).toLowerCase();

function question(prompt, inputs) {
  if (prompt.inputs.length === 1) return inputs[prompt.inputs[0]] ?? "";
  return prompt.inputs.map((name) => `${capital(name)}: ${inputs[name] ?? ""}`).join("\n");
}

function reply(prompt, demo) {
  if (prompt.style === "direct") return demo.output;
  return `${demo.reasoning}\n${capital(prompt.output)}: ${demo.output}`.trimStart();
}

/** [{role, content}, …] for one question; `chosen` are the demos it is shown, null for all. */
function messages(prompt, inputs, chosen) {
  let system = prompt.instruction;
  if (prompt.style === "cot") {
    system = `${system}\n${prompt.cot_request} "${capital(prompt.output)}:".`.trimStart();
  }
  const chat = system ? [{ role: "system", content: system }] : [];
  const demos = chosen ? chosen.map((place) => prompt.demos[place]) : prompt.demos;
  for (const demo of demos) {
    chat.push({ role: "user", content: question(prompt, demo.inputs) });
    chat.push({ role: "assistant", content: reply(prompt, demo) });
  }
  return [...chat, { role: "user", content: question(prompt, inputs) }];
}
