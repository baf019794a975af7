// Pages through the samples of a report: documents with their latents, programs with verdicts.
(() => {
  const all = JSON.parse(document.getElementById("samples").textContent);
  const get = (id) => document.getElementById(id);
  const [kind, arm, verdict, shown, place] = ["kind", "arm", "verdict", "shown", "place"].map(get);
  let index = 0;
  const add = (parent, tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const fill = (select, values, label) => {
    select.replaceChildren();
    add(select, "option", "", label).value = "";
    [...new Set(values)].sort().forEach((value) => (add(select, "option", "", value).value = value));
  };
  const ofKind = () => all.filter((sample) => sample.sample === kind.value);
  const chosen = () =>
    ofKind().filter(
      (sample) => (!arm.value || sample.arm === arm.value) && (!verdict.value || sample.verdict === verdict.value),
    );
  const showDocument = (sample) => {
    add(shown, "h3", "", `${sample.name} (${sample.arm})`);
    if (sample.prefix) add(shown, "pre", "", sample.prefix);
    const head = add(shown, "div", "line");
    ["", "q(think)", "log p (act)", ""].forEach((text) => add(head, "span", "number", text));
    let latent = 0;
    for (const line of sample.lines) {
      if (line.rationale !== null) latent += 1;
      const row = add(shown, "div", `line ${latent ? (latent % 2 ? "even" : "odd") : ""}`);
      if (line.rationale !== null) add(row, "span", "rationale", line.rationale);
      add(row, "span", `chip ${line.rationale !== null ? "think" : ""}`, line.rationale !== null ? "think" : "act");
      add(row, "span", "number", line.think_probability.toFixed(2));
      const without = line.rationale !== null ? ` (${line.logprob_act.toFixed(1)})` : "";
      add(row, "span", "number", line.logprob.toFixed(1) + without);
      add(row, "code", "", line.text.replace(/\n+$/, ""));
    }
  };
  const showProgram = (sample) => {
    const title = add(shown, "h3", "", `${sample.task_id} (${sample.arm}, after ${sample.position} updates) `);
    add(title, "span", sample.verdict === "passed" ? "passed" : "failed", sample.verdict);
    if (sample.detail) add(shown, "p", "failed", sample.detail);
    const code = add(shown, "pre", "", sample.prompt);
    sample.raw.split(/(<think>.*?<\/think>|<act>)/s).forEach((part) =>
      /^<(think|act)>/.test(part) ? add(code, "mark", "", part) : code.append(part),
    );
  };
  const show = () => {
    const samples = chosen();
    index = Math.max(0, Math.min(index, samples.length - 1));
    place.textContent = samples.length ? `${index + 1} of ${samples.length}` : "nothing to show";
    shown.replaceChildren();
    if (samples.length) (kind.value === "document" ? showDocument : showProgram)(samples[index]);
  };
  const refill = () => {
    fill(arm, ofKind().map((sample) => sample.arm), "all arms");
    fill(verdict, ofKind().flatMap((sample) => sample.verdict || []), "all verdicts");
    index = 0;
    show();
  };
  const move = (by) => {
    index += by;
    show();
  };
  kind.onchange = refill;
  arm.onchange = verdict.onchange = () => move(-index);
  get("previous").onclick = () => move(-1);
  get("next").onclick = () => move(1);
  document.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  // #program=3 opens a place.
  const link = /^#(document|program)=(\d+)$/.exec(location.hash);
  if (link) kind.value = link[1];
  refill();
  if (link) move(Number(link[2]) - 1);
})();
