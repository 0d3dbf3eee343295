// The page: it shows the turns up to the one in the address, and asks the next one.
//
//     address #id ──▶ GET runs/id: the turns ──▶ a Turn each ──▶ its events ──▶ show[part.type]
//     a prompt    ──▶ POST runs ──▶ address
//
// Turns that lead to both the old and the new address stay as they are. So a question, an edit, a
// reload and a step back in the browser's history are one thing: another address.

import {Markdown, made} from "./markdown.js";

const at = {};
for (const element of document.querySelectorAll("[id]")) at[element.id] = element;

let turns = []; // those that are shown, in their order
let edited = null; // the turn whose prompt is being edited
let draft = ""; // the text that was in the field before
let isAsking = false;

// --- a turn ----------------------------------------------------------------------

class Turn {
  constructor({id, prompt}, after) {
    this.id = id;
    this.prompt = prompt;
    this.after = after; // the id of the turn before it, or null
    this.section = null; // the one that the next part may continue
    this.calls = new Map(); // tool calls by id, and by their index in the answer that arrives
    this.finishReason = null;
    this.isOver = false;
    this.ended = new Promise((resolve) => (this.end = resolve));

    const asked = styled("h2", "asked", prompt);
    asked.id = `asked-${id}`;
    this.edit = styled("button", "edit", "Edit");
    this.edit.id = `edit-${id}`;
    this.edit.setAttribute("aria-labelledby", `${this.edit.id} ${asked.id}`);
    this.edit.addEventListener("click", () => beginEditing(this));
    this.article = made("article", styled("div", "question", asked, this.edit));
    this.article.setAttribute("aria-labelledby", asked.id);
    this.article.ariaBusy = "true";
    at.turns.append(this.article);
    this.events = this.#join();
  }

  get isLast() {
    return turns.at(-1) === this;
  }

  // After a broken connection, the browser requests the events again, after the last one it has.
  #join() {
    const events = new EventSource(`runs/${this.id}/events`);
    events.onopen = () => this.say("Waiting…");
    events.onmessage = ({data}) => {
      const part = JSON.parse(data);
      show[part.type]?.(this, part);
    };
    events.addEventListener("end", ({data}) => this.finish(JSON.parse(data)));
    events.onerror = () => {
      if (events.readyState !== EventSource.CLOSED) this.say("The connection broke; trying again…");
      else this.finish({status: "lost", message: "the turn is no longer kept"});
    };
    return events;
  }

  // Returns the section that a part of this kind continues, or a new one.
  sectionOf(Kind) {
    if (!(this.section instanceof Kind)) {
      this.endSection();
      this.section = new Kind(this);
    }
    return this.section;
  }

  endSection() {
    this.section?.end();
    this.section = null;
  }

  finish({status, message}) {
    if (this.section instanceof Answer) this.endSection(); // thoughts without an answer stay open
    for (const call of this.calls.values()) call.abandon();
    this.#addEnding(status, message);
    this.isOver = true;
    this.article.ariaBusy = "false";
    this.events.close();
    if (this.isLast) {
      follow();
      showState();
    }
    this.say({completed: "Complete.", cancelled: "Stopped."}[status] ?? "Failed.");
    this.end();
  }

  #addEnding(status, message) {
    const isCut = this.finishReason === "length" || this.finishReason === "model_length";
    const hasText = Boolean(this.article.querySelector(".answer"));
    if (status === "cancelled") {
      this.article.append(styled("p", "ending", "Stopped."));
    } else if (status !== "completed") {
      const problem = hasText ? "The answer is not complete" : "There is no answer";
      const wrong = styled("p", "wrong", `${problem}: ${message}.`);
      if (this.isLast) wrong.role = "alert"; // the errors of earlier turns are not read out
      this.article.append(wrong);
    } else if (isCut) {
      this.article.append(styled("p", "ending", "The answer was cut: it reached the limit of its length."));
    } else if (!hasText) {
      this.article.append(styled("p", "ending", "The answer is empty."));
    }
  }

  say(words) {
    if (this.isLast) say(words);
  }

  leave() {
    this.events.close();
    this.section?.end();
    this.article.remove();
  }
}

// By type, the function that shows a part of an answer (see rxmistral.Part): as text, never HTML.
const show = {
  thinking_delta(turn, {text}) {
    turn.sectionOf(Thinking).append(text);
    turn.say("Thinking…");
  },
  text_delta(turn, {text}) {
    turn.sectionOf(Answer).append(text);
    turn.say("Answering…");
  },
  tool_call_started(turn, {id, name, index}) {
    turn.endSection();
    const call = new ToolCall(turn, name);
    turn.calls.set(id, call).set(index, call);
  },
  tool_call_delta(turn, {index, arguments: text}) {
    turn.calls.get(index)?.arguments.append(text);
  },
  tool_call_ready(turn, {call}) {
    turn.calls.get(call.id)?.update("is running…");
  },
  tool_progress(turn, {call, item}) {
    turn.calls.get(call.id)?.update(`is running: ${typeof item === "string" ? item : JSON.stringify(item)}`);
  },
  tool_returned(turn, {call, content}) {
    turn.calls.get(call.id)?.end("returned", content);
  },
  tool_failed(turn, {call, message}) {
    turn.calls.get(call.id)?.end("failed", message);
  },
  answer_ended(turn, {finish_reason}) {
    turn.finishReason = finish_reason;
  },
};

// --- the sections of a turn ------------------------------------------------------

// Thoughts are open while they arrive, and folded when something else begins.
class Thinking {
  constructor(turn) {
    this.text = document.createTextNode("");
    this.details = styled("details", "thinking", made("summary", "Thoughts"), styled("p", "text", this.text));
    this.details.open = true;
    turn.article.append(this.details);
  }

  append(text) {
    this.text.appendData(text);
  }

  end() {
    this.details.open = false;
  }
}

// Text is shown once per frame, however many tokens arrive in it.
class Answer {
  constructor(turn) {
    this.turn = turn;
    this.frame = 0;
    this.saidCount = 0; // of the sentences in the blocks that are not final
    const element = styled("div", "answer");
    this.markdown = new Markdown(element);
    turn.article.append(element);
  }

  append(text) {
    this.markdown.append(text);
    this.frame ||= requestAnimationFrame(() => this.render());
  }

  end() {
    cancelAnimationFrame(this.frame);
    this.markdown.isOpen = false;
    this.render();
  }

  render() {
    this.frame = 0;
    const isArriving = this.markdown.isOpen;
    const {final, open} = this.markdown.render(isArriving ? markArrivingSentence : undefined);
    if (this.turn.isLast) this.#speak(final.flatMap(sentences), open.flatMap(sentences));
  }

  // Reads out the sentences that are new; the last one may continue.
  #speak(final, open) {
    if (this.markdown.isOpen) open.pop();
    const all = [...final, ...open];
    for (const sentence of all.slice(this.saidCount)) at.spoken.append(made("p", sentence));
    this.saidCount = Math.max(this.saidCount, all.length) - final.length;
  }
}

// A call is open, unless its result is long.
class ToolCall {
  constructor(turn, name) {
    this.turn = turn;
    this.name = name;
    this.isOver = false;
    this.state = made("span");
    this.arguments = made("code");
    const summary = made("summary", made("strong", name), " ", this.state);
    this.details = styled("details", "tool", summary, made("p", "Arguments: ", this.arguments));
    this.details.open = true;
    turn.article.append(this.details);
    this.update("is being called…");
  }

  update(words) {
    this.state.textContent = words;
    this.turn.say(`${this.name} ${words}`);
  }

  end(how, text) {
    this.isOver = true;
    this.update(`${how}.`);
    this.details.classList.add(how);
    this.details.open = text.length < 1000;
    this.details.append(made("p", how === "failed" ? "Reason: " : "Result: ", made("code", text)));
  }

  abandon() {
    if (!this.isOver) this.state.textContent = "did not end.";
  }
}

// --- sentences: for screen readers, and for the eyes -------------------------------

const segmenter = new Intl.Segmenter(undefined, {granularity: "sentence"});
const LEAVES = "p, h3, h4, h5, h6, pre, tr";

function leaves(element) {
  return element.matches(LEAVES) ? [element] : [...element.querySelectorAll(LEAVES)];
}

// Returns the texts to read out for an element: its sentences, the rows of a table, and only the
// length of code.
function sentences(element) {
  return leaves(element).flatMap((leaf) => {
    const text = leaf.textContent;
    if (leaf.localName === "pre") return [`${leaf.ariaLabel}, ${text.split("\n").length} lines.`];
    if (leaf.localName === "tr") return [[...leaf.children].map((cell) => cell.textContent).join(", ")];
    return [...segmenter.segment(text)].map(({segment}) => segment.trim()).filter(Boolean);
  });
}

function markArrivingSentence(fragment) {
  const leaf = fragment.lastElementChild && leaves(fragment.lastElementChild).at(-1);
  if (!leaf || leaf.localName === "pre" || leaf.localName === "tr") return;
  let before = [...segmenter.segment(leaf.textContent)].at(-1)?.index ?? 0; // characters
  const texts = document.createTreeWalker(leaf, NodeFilter.SHOW_TEXT);
  const arriving = [];
  while (texts.nextNode()) {
    const node = texts.currentNode;
    if (before < node.length) arriving.push([node, before]);
    before = Math.max(0, before - node.length);
  }
  for (const [node, offset] of arriving) {
    const part = offset ? node.splitText(offset) : node;
    const mark = made("mark");
    part.replaceWith(mark);
    mark.append(part);
  }
}

// --- the view ---------------------------------------------------------------------

function styled(name, className, ...children) {
  return Object.assign(made(name, ...children), {className});
}

function say(words) { // only a change is read out
  if (at.status.textContent !== words) at.status.textContent = words;
}

function fail(words) {
  at.wrong.textContent = words;
  at.wrong.scrollIntoView({block: "nearest"});
}

function showState() {
  const last = turns.at(-1);
  const isRunning = Boolean(last && !last.isOver);
  if (!isRunning && document.activeElement === at.stop) at.prompt.focus();
  at.stop.hidden = !isRunning;
  at.welcome.hidden = Boolean(last);
  at.fresh.hidden = at.link.hidden = !last;
  at.link.href = location.hash;
  document.title = last?.prompt || "Ask a model";
}

// --- the user's actions ------------------------------------------------------------

// Shows the turns up to the one in the address: also after a reload, and for anyone with the link.
async function join(isAsked = false) {
  const id = location.hash.slice(1);
  const response = id ? await call("GET", `runs/${encodeURIComponent(id)}`) : null;
  if (id && !response) return; // the turns that are shown stay
  const path = response?.ok ? (await response.json()).turns : [];
  if (id !== location.hash.slice(1)) return; // the address has changed meanwhile
  if (edited) at.prompt.value = endEditing();
  const first = path.findIndex(({id}, number) => turns[number]?.id !== id);
  const kept = first < 0 ? path.length : first;
  for (const turn of turns.splice(kept)) turn.leave();
  at.spoken.replaceChildren();
  if (!response || response.ok) at.wrong.textContent = "";
  say("");
  for (const each of path.slice(kept)) turns.push(new Turn(each, turns.at(-1)?.id ?? null));
  showState();
  following = isAsked;
  if (isAsked || !turns.length) return;
  await Promise.all(turns.slice(0, -1).map((turn) => turn.ended));
  if (!following) turns.at(-1)?.article.scrollIntoView();
}

// Returns the response, or null; shows an error.
async function call(method, path, body) {
  try {
    const headers = {"Content-Type": "application/json"};
    const response = await fetch(path, {method, headers, body: JSON.stringify(body)});
    if (response.status === 404) fail("This conversation is no longer kept.");
    else if (!response.ok) fail(`The server refused the request: ${await response.text()}`);
    return response;
  } catch (error) {
    fail(`The server cannot be reached: ${error.message}.`);
    return null;
  }
}

async function ask() {
  const prompt = at.prompt.value.trim();
  if (!prompt || isAsking) return;
  isAsking = true; // the next question follows the turn that this one begins
  at.prompt.value = "";
  const after = edited ? edited.after : turns.at(-1)?.id ?? null;
  if (!at.stop.hidden) await stop();
  const response = await call("POST", "runs", {prompt, after});
  isAsking = false;
  if (!response?.ok) {
    at.prompt.value ||= prompt;
    return;
  }
  if (matchMedia("(pointer: fine)").matches) at.prompt.focus(); // elsewhere a keyboard would open
  const {id} = await response.json();
  history.pushState(null, "", `#${id}`);
  const kept = endEditing();
  at.prompt.value ||= kept;
  join(true);
}

function stop() {
  return call("DELETE", `runs/${turns.at(-1).id}`);
}

function beginEditing(turn) {
  draft = edited ? endEditing() : at.prompt.value;
  edited = turn;
  turn.article.classList.add("edited");
  at.label.textContent = "Edit your question";
  at.hint.textContent = "Enter replaces what follows, Escape cancels.";
  at.cancel.hidden = false;
  at.prompt.value = turn.prompt;
  at.prompt.focus();
  at.prompt.setSelectionRange(turn.prompt.length, turn.prompt.length);
}

// Returns the text that was in the field before.
function endEditing() {
  const kept = edited ? draft : "";
  edited?.article.classList.remove("edited");
  edited = null;
  at.label.textContent = "Your question";
  at.hint.textContent = "Enter sends it, Escape stops the answer.";
  at.cancel.hidden = true;
  return kept;
}

function cancelEditing() {
  const button = edited.edit;
  at.prompt.value = endEditing();
  button.focus();
}

at.form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at.prompt.addEventListener("keydown", (event) => {
  // Enter also ends a composition; Safari reports that as key 229.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  at.form.requestSubmit();
});
at.stop.addEventListener("click", stop);
at.cancel.addEventListener("click", cancelEditing);
at.fresh.addEventListener("click", () => at.prompt.focus());
addEventListener("keydown", ({key, isComposing}) => {
  if (key !== "Escape" || isComposing) return;
  if (edited) cancelEditing();
  else if (!at.stop.hidden) at.stop.click();
});
addEventListener("hashchange", () => join());

// --- the page follows the answer after a question, or at its end, until the user scrolls up ---

const page = document.documentElement;
let following = false;
let before = 0;

function follow() {
  if (following) scrollTo(0, page.scrollHeight);
}

addEventListener("scroll", () => {
  const isAtEnd = innerHeight + scrollY > page.scrollHeight - 50;
  following = isAtEnd || (following && scrollY >= before);
  before = scrollY;
});
new ResizeObserver(() => {
  if (!at.stop.hidden) follow();
}).observe(at.turns);

history.scrollRestoration = "manual"; // the turns arrive later
join();
