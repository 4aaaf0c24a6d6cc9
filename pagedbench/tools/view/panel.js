// The panel that describes an event: which request it affected, and which caused it.

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function link(text, action) {
  const button = element("button", text);
  button.type = "button";
  button.className = "link";
  button.addEventListener("click", action);
  return button;
}

const requestLink = (id) => id === NONE ? "unknown" : link(`request ${id}`, () => showRequest(id, true));
const seconds = (value) => Number.isNaN(value) ? "never" : `${value.toFixed(value < 10 ? 3 : 2)} s`;
const whole = (value) => value.toLocaleString("en");
const counted = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
const at = (step) => `${seconds(secondsAt(step))} (iteration ${whole(step)})`;

function facts(...pairs) {
  const list = element("dl");
  for (const [term, value] of pairs) list.append(element("dt", term), element("dd", undefined, value));
  return list;
}

function showPanel(title, ...children) {
  byId("panel").replaceChildren(element("h2", title), ...children);
}

function showOverview() {
  chosen = new Map();
  chosenPreemption = chosenEviction = NONE;
  const swaps = columns.preemption_is_swap.reduce((sum, one) => sum + one, 0);
  const number = columns.preemption_step.length;
  const lost = columns.preemption_lost.reduce((sum, one) => sum + one, 0);
  showPanel("The whole run",
    facts(["preemptions", whole(number)], ["by swapping", whole(swaps)], ["computed again", counted(lost, "token")],
      ["evicted", counted(columns.eviction_step.length, "block")], ["iterations", whole(pool.num_steps)]),
    element("p", number ? "Click a red mark, or press n, to see who was preempted." : "No request was preempted."));
  draw();
}

function showPreemption(i, isMoving) {
  const victim = columns.preemption_victim[i], cause = columns.preemption_cause[i], step = columns.preemption_step[i];
  const back = columns.preemption_back[i], isSwap = columns.preemption_is_swap[i];
  chosenPreemption = i;
  chosenEviction = NONE;
  chosen = new Map([[cause, "cause"], [victim, "victim"]]);
  const lost = columns.preemption_lost[i];
  const cost = isSwap ? "nothing: its blocks moved to the host" : `${counted(lost, "token")} a second time`;
  const return_ = back === NONE ? "never" : `${at(back)}, after ${seconds(secondsAt(back) - secondsAt(step))}`;
  showPanel(`Preemption ${whole(i + 1)} of ${whole(columns.preemption_step.length)}`,
    facts(["who lost", requestLink(victim)], ["when", at(step)],
      ["lost", `${counted(columns.preemption_blocks[i], "block")} of the device`],
      ["who needed room", cause === victim ? "the same: no later one was left" : requestLink(cause)],
      ["computed again", cost], ["came back", return_]));
  if (isMoving) moveTo(xOfStep(step), xOfStep(back === NONE ? step + 1 : back));
  draw();
}

function showEviction(i, isMoving) {
  const { eviction_step: steps, eviction_cause: causes, eviction_owner: owners } = columns;
  let first = i, end = i + 1;
  while (first > 0 && steps[first - 1] === steps[i] && causes[first - 1] === causes[i]) first--;
  while (end < steps.length && steps[end] === steps[i] && causes[end] === causes[i]) end++;
  chosenEviction = first;
  chosenPreemption = NONE;
  const losers = new Set(owners.slice(first, end));
  chosen = new Map([...[...losers].map((owner) => [owner, "victim"]), [causes[i], "cause"]]);
  const list = element("ul");
  for (let k = first; k < Math.min(end, first + 12); k++) {
    const idle = columns.eviction_idle_since[k];
    const since = idle === NONE ? "" : `, idle for ${seconds(secondsAt(steps[k]) - secondsAt(idle))}`;
    list.append(element("li", undefined, `block ${columns.eviction_block[k]} of `, requestLink(owners[k]), since));
  }
  if (end > first + 12) list.append(element("li", `and ${counted(end - first - 12, "more block")}`));
  showPanel(`Eviction of ${counted(end - first, "block")}`,
    facts(["when", at(steps[i])], ["who needed room", requestLink(causes[i])],
      ["whose content", counted(losers.size, "request")],
      ["if asked for again", `${whole((end - first) * pool.block_size)} tokens to compute`]), list);
  if (isMoving) moveTo(xOfStep(steps[i]), xOfStep(steps[i]));
  draw();
}

function showRequest(id, isMoving, block) {
  const row = requestRow.get(id);
  if (row === undefined) { showPanel(`Request ${id}`, element("p", "There is no such request in this run.")); return; }
  const value = (name) => columns[`request_${name}`][row];
  chosen = new Map([[id, "cause"]]);
  chosenPreemption = chosenEviction = NONE;
  const own = [];
  columns.preemption_victim.forEach((victim, i) => { if (victim === id) own.push(i); });
  const list = element("ul");
  for (const i of own) list.append(element("li", undefined, link(at(columns.preemption_step[i]), () => showPreemption(i, true))));
  showPanel(`Request ${id}`, block ?? "",
    facts(["prompt", counted(value("prompt_len"), "token")], ["reply", counted(value("output_len"), "token")],
      ...(value("n") > 1 ? [["sequences", whole(value("n"))]] : []),
      ...(value("cached_tokens") ? [["found in cache", counted(value("cached_tokens"), "token")]] : []),
      ["arrived", seconds(value("arrival"))], ["admitted", seconds(value("admit"))],
      ["first token", seconds(value("first_token"))], ["finished", seconds(value("finish"))],
      ["preempted", counted(value("preemptions"), "time")]), list);
  const [from, to] = [value("admit"), value("finish")].map((time) => axis === "time" ? time : translated(time * 1e6, columns.step_micros, columns.step_number));
  if (isMoving && from <= to) moveTo(from, to);
  draw();
}
