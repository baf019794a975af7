// Pages through the samples of a report: documents with their latents, programs with verdicts.
// The page is complete without it, apart from the viewer. Text only ever becomes text.
(() => {
  const get = (id) => document.getElementById(id);
  if (!get("viewer")) return;
  const all = JSON.parse(get("samples").textContent);
  const samples = {
    document: all.filter((sample) => sample.sample === "document"),
    program: all.filter((sample) => sample.sample === "program"),
  };
  const tabs = { document: get("documents"), program: get("programs") };
  const filters = { arm: get("arm"), family: get("family"), verdict: get("verdict") };
  const shown = get("shown");
  const state = { kind: "document", index: 0 };

  const add = (parent, tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };

  // A colour for the arm, whatever stage of it wrote the sample.
  const arms = JSON.parse(get("arm-names").textContent);
  const armClass = (arm) => `arm arm${arms.indexOf(arm.replace(/^rlvr-/, "")) % 8}`;

  const heading = (sample, title, facts) => {
    const head = add(shown, "h3", "", title + " ");
    add(head, "span", armClass(sample.arm), sample.arm);
    for (const fact of facts) add(head, "span", "fact", fact);
    return head;
  };

  const signed = (nats) => (nats < 0 ? "−" : "+") + Math.abs(nats).toFixed(2);
  const minus = (nats) => nats.toFixed(2).replace("-", "−");

  // Lines that the rationale of line `start` is in force for.
  const reach = (lines, start) => {
    const next = lines.findIndex((line, i) => i > start && line.rationale !== null);
    return (next < 0 ? lines.length : next) - start;
  };

  const showDocument = (sample) => {
    // Numbers that are not finite are words in JSON.
    const numbers = ["logprob", "logprob_act", "think_probability"];
    const lines = sample.lines.map((line) => ({
      ...line,
      ...Object.fromEntries(numbers.map((name) => [name, Number(line[name])])),
    }));
    const thinks = lines.filter((line) => line.rationale !== null);
    const gain = thinks.reduce((sum, line) => sum + line.logprob - line.logprob_act, 0);
    heading(sample, sample.name, [
      `${lines.length} lines, ${thinks.length} with a new rationale`,
      ...(thinks.length ? [`sum of gains ${signed(gain)} nats`] : []),
    ]);
    if (sample.prefix) add(shown, "pre", "prefix", sample.prefix);
    const table = add(add(shown, "div", "wide"), "table", "lines");
    const head = add(add(table, "thead"), "tr");
    const columns = ["", "decision", "q(think)", "log p", "without", "gain", "line", "rationale in force"];
    columns.forEach((name) => (add(head, "th", "", name).scope = "col"));
    const body = add(table, "tbody");
    let latent = 0;
    lines.forEach((line, i) => {
      const isThink = line.rationale !== null;
      if (isThink) latent += 1;
      const tint = latent ? `latent tint${latent % 4}` : "latent";
      const row = add(body, "tr");
      add(row, "td", "number", i + 1);
      add(add(row, "td"), "span", isThink ? "chip think" : "chip", isThink ? "think" : "act");
      const q = add(add(row, "td", "number"), "span", "share", line.think_probability.toFixed(2));
      q.style.setProperty("--share", line.think_probability);
      add(row, "td", "number", minus(line.logprob));
      add(row, "td", "number", isThink ? minus(line.logprob_act) : "same");
      const gain = line.logprob - line.logprob_act;
      const side = gain < 0 ? "worse" : "better";
      add(row, "td", isThink ? `number ${side}` : "number", isThink ? signed(gain) : "");
      add(add(row, "td", `code ${tint}`), "code", "", line.text.replace(/\n+$/, ""));
      if (isThink || i === 0) {
        const cell = add(row, "td", `rationale ${tint}`, isThink ? line.rationale.trim().replace(/\s*\n\s*/g, " ↵ ") : "none yet");
        cell.rowSpan = reach(lines, i);
      }
    });
  };

  // The raw text with its decisions and rationales marked; one without an end runs to the end.
  const marked = (parent, raw) => {
    for (const part of raw.split(/(<think>.*?(?:<\/think>|$)|<act>)/s)) {
      if (part === "<act>") add(parent, "mark", "act", "act");
      else if (part.startsWith("<think>")) add(parent, "mark", "thought", part.replace(/<\/?think>/g, "").trim());
      else parent.append(part);
    }
  };

  const showProgram = (sample) => {
    const head = heading(sample, sample.task_id, [sample.family, `after ${sample.position} updates`]);
    const isPassed = sample.verdict === "passed";
    const verdict = sample.verdict.replace(/_/g, " ");
    add(head, "span", isPassed ? "verdict passed" : "verdict failed", (isPassed ? "✓ " : "✗ ") + verdict);
    if (sample.detail) add(shown, "p", "detail", sample.detail);
    const code = add(shown, "pre", "program");
    add(code, "span", "prompt", sample.prompt);
    marked(code, sample.raw);
    if (sample.raw !== sample.completion) {
      const ran = add(shown, "details");
      add(ran, "summary", "", "the program that ran, without decisions and rationales");
      add(ran, "pre", "", sample.prompt + sample.completion);
    }
  };

  const chosen = () =>
    samples[state.kind].filter((sample) =>
      Object.entries(filters).every(([key, select]) => !select.value || sample[key] === select.value),
    );

  const show = (keepLink) => {
    const list = chosen();
    state.index = Math.max(0, Math.min(state.index, list.length - 1));
    shown.replaceChildren();
    get("place").textContent = list.length ? `${state.index + 1} of ${list.length}` : "0 of 0";
    get("previous").disabled = state.index <= 0;
    get("next").disabled = state.index >= list.length - 1;
    const sample = list[state.index];
    if (!sample) {
      add(shown, "p", "none", samples[state.kind].length ? "Nothing passes these filters." : "Not in this run.");
      return;
    }
    (state.kind === "document" ? showDocument : showProgram)(sample);
    if (!keepLink) {
      history.replaceState(null, "", `#${state.kind}=${samples[state.kind].indexOf(sample) + 1}`);
    }
  };

  const open = (kind) => {
    state.kind = kind;
    state.index = 0;
    for (const [name, tab] of Object.entries(tabs)) tab.setAttribute("aria-pressed", String(name === kind));
    get("viewer").dataset.kind = kind;
    for (const [key, select] of Object.entries(filters)) {
      const values = [...new Set(samples[kind].map((sample) => sample[key]).filter(Boolean))].sort();
      select.replaceChildren();
      add(select, "option", "", "all").value = "";
      for (const value of values) add(select, "option", "", value.replace(/_/g, " ")).value = value;
    }
  };

  const move = (by) => {
    state.index += by;
    show();
  };

  for (const [kind, tab] of Object.entries(tabs)) {
    tab.onclick = () => {
      open(kind);
      show();
    };
  }
  for (const select of Object.values(filters)) {
    select.onchange = () => {
      state.index = 0;
      show();
    };
  }
  get("previous").onclick = () => move(-1);
  get("next").onclick = () => move(1);
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target instanceof Element && event.target.closest("select, input, pre, .wide");
    if (isTyping || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });

  // #document=2 and #program=3 open a place; other links are the page's own.
  const follow = () => {
    const link = /^#(document|program)=(\d+)$/.exec(location.hash);
    if (!link) return false;
    open(link[1]);
    state.index = Number(link[2]) - 1;
    show(true);
    get("viewer").scrollIntoView();
    return true;
  };
  addEventListener("hashchange", follow);
  if (!follow()) {
    open(samples.document.length ? "document" : "program");
    show(true);
  }
})();
