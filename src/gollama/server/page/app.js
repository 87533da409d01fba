// The page: a conversation with a model of this server, and what the server does.

import { watchMetrics } from "./metrics.js";
import { events, key, request } from "./stream.js";
import { element, TextWriter } from "./text.js";

const at = (id) => document.getElementById(id);
const NEAR = 80; // pixels from the end within which the view follows an answer

let messages = [];
let running = null; // what stops the answer that comes

function alertOf(text) {
  at("alert").textContent = text;
  at("alert").hidden = !text;
}

// ---- models ----

async function listModels() {
  const select = at("model");
  try {
    const { data } = await (await request("v1/models")).json();
    const chosen = select.value;
    select.replaceChildren(...data.map(({ id }) => element("option", { value: id, textContent: id })));
    if (data.some(({ id }) => id === chosen)) select.value = chosen;
    select.disabled = !data.length;
    alertOf("");
  } catch (error) {
    select.disabled = true;
    alertOf(`The models cannot be listed: ${error.message}`);
  }
}

// ---- the conversation ----

function turn(role, title) {
  at("empty").hidden = true;
  const body = element("div");
  const made = element("article", { className: `turn ${role}` }, element("h3", { textContent: title }), body);
  at("log").append(made);
  return { made, body };
}

function follow(change) {
  const log = at("log");
  const near = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
  change();
  if (near) log.scrollTop = log.scrollHeight;
}

function asked() {
  const given = { model: at("model").value, messages: [...messages], stream: true, stream_options: { include_usage: true } };
  const system = at("system").value.trim();
  if (system) given.messages.unshift({ role: "system", content: system });
  for (const [id, name] of [["temperature", "temperature"], ["most", "max_tokens"]]) {
    const field = at(id);
    if (!field.checkValidity()) throw new Error(`${field.labels[0].textContent}: ${field.validationMessage}`);
    if (field.value) given[name] = Number(field.value);
  }
  return given;
}

class Answer {
  text = "";
  #usage = null;
  #reason = null;
  #started = performance.now();
  #first = null;
  #thinking = null;
  #body;
  #writer;

  constructor(model) {
    const { made, body } = turn("assistant", model);
    this.made = made;
    this.#body = body;
    made.classList.add("waiting");
    this.#writer = new TextWriter(body);
  }

  take(event) {
    if (event.usage) this.#usage = event.usage;
    const choice = event.choices?.[0];
    if (!choice) return;
    this.#reason = choice.finish_reason ?? this.#reason;
    const { content, reasoning_content: reasoning } = choice.delta;
    if (content || reasoning) {
      this.#first ??= performance.now();
      this.made.classList.remove("waiting");
    }
    if (reasoning) this.#think(reasoning);
    if (content) {
      this.text += content;
      this.#writer.add(content);
    }
  }

  #think(text) {
    if (!this.#thinking) {
      const body = element("div");
      this.made.insertBefore(element("details", {}, element("summary", { textContent: "Reasoning" }), body), this.#body);
      this.#thinking = new TextWriter(body);
    }
    this.#thinking.add(text);
  }

  end(note) {
    this.#thinking?.end();
    this.#writer.end();
    this.made.classList.remove("waiting");
    const parts = note ? [note] : [];
    if (this.#reason === "length") parts.push("ended at the most tokens");
    if (this.#usage) {
      const seconds = (performance.now() - this.#first) / 1000;
      const { completion_tokens: tokens } = this.#usage;
      parts.push(`${tokens} tokens`);
      if (tokens > 1 && seconds > 0) parts.push(`${((tokens - 1) / seconds).toFixed(1)} per second`);
    }
    if (this.#first) parts.push(`first after ${(this.#first - this.#started).toFixed(0)} ms`);
    if (parts.length) this.made.append(element("p", { className: "foot", textContent: parts.join(", ") }));
  }
}

async function send(text) {
  const before = messages;
  messages = [...messages, { role: "user", content: text }];
  let body;
  try {
    body = asked();
  } catch (error) {
    messages = before;
    alertOf(error.message);
    return false;
  }
  alertOf("");
  new TextWriter(turn("user", "You").body).add(`${text}\n`);
  const answer = new Answer(body.model);
  at("log").scrollTop = at("log").scrollHeight;
  const control = new AbortController();
  running = control;
  busy(true);
  answering(body, answer, control).finally(() => {
    if (running === control) {
      running = null;
      busy(false);
    }
  });
  return true;
}

async function answering(body, answer, control) {
  let note = "";
  try {
    const response = await request("v1/chat/completions", { body, signal: control.signal });
    for await (const event of events(response)) follow(() => answer.take(event));
  } catch (error) {
    note = control.signal.aborted ? "stopped" : "failed";
    if (!control.signal.aborted) alertOf(error.message);
  }
  if (!answer.made.isConnected) return; // another conversation has begun
  follow(() => answer.end(note));
  if (answer.text) messages.push({ role: "assistant", content: answer.text });
  else messages.pop(); // a question without an answer is not asked again
  at("status").textContent = note === "failed" ? "" : `${note ? "Stopped. " : ""}${body.model}: ${answer.text}`;
}

function busy(now) {
  const away = document.activeElement === at(now ? "send" : "stop");
  at("send").hidden = now;
  at("stop").hidden = !now;
  at("log").setAttribute("aria-busy", String(now));
  if (now) at("status").textContent = "The answer comes";
  if (away) at("message").focus();
}

function begin() {
  running?.abort();
  running = null;
  busy(false);
  messages = [];
  at("log").replaceChildren(at("empty"));
  at("empty").hidden = false;
  at("status").textContent = "New chat";
  alertOf("");
  at("message").focus();
}

// ---- what is shown beside ----

function show(name, now) {
  at(name).hidden = !now;
  at(`show-${name}`).setAttribute("aria-expanded", String(now));
  at("side").hidden = at("settings").hidden && at("metrics").hidden;
}

function toggle(name) {
  const now = at(name).hidden;
  show(name, now);
  if (now && matchMedia("(max-width: 56rem)").matches) show(name === "settings" ? "metrics" : "settings", false);
  if (now && name === "metrics") pollMetrics();
}

// ---- what starts it ----

at("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("message").value.trim();
  if (text && !running && await send(text)) at("message").value = "";
});
at("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("composer").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
at("stop").addEventListener("click", () => running?.abort());
at("new").addEventListener("click", begin);
at("options").addEventListener("submit", (event) => event.preventDefault()); // which would put the fields into the address
at("key").addEventListener("change", () => {
  key.set(at("key").value.trim());
  listModels();
});
for (const name of ["settings", "metrics"]) at(`show-${name}`).addEventListener("click", () => toggle(name));

at("key").value = key.get();
if (matchMedia("(min-width: 56.01rem)").matches) show("metrics", true);
const pollMetrics = watchMetrics(at("charts"), at("rows"), at("metrics-note"));
listModels();
