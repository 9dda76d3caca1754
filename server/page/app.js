// The chat page's behaviour: one WebSocket (subprotocol troupe.v1), one conversation, one answer at a time.
// Text from the model and from the person only ever becomes text nodes.
import { render } from "/markdown.js";

const $ = (id) => document.getElementById(id);
const log = $("log"), prompt = $("prompt"), send = $("send"), stop = $("stop"), settings = $("settings");
const defaults = { system: "", temperature: 0.7, max_tokens: 512 };

let chosen = { ...defaults, ...JSON.parse(localStorage.getItem("troupe.settings") ?? "{}") };
let history = [];     // {role, content} of the finished turns: kept while the tab lives
let answer = null;    // the answer being streamed: {id, node, text, tokens, sent, first}
let socket = null;
let retryMs = 500;
let nextId = 1;

// --- connection -------------------------------------------------------------------------------------------------
function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, "troupe.v1");
  socket.onopen = () => { retryMs = 500; showLink("on", "connected"); };
  socket.onmessage = (frame) => receive(JSON.parse(frame.data));
  socket.onclose = () => {
    showLink("off", "reconnecting");
    if (answer) finish(null, "The connection was lost. Send again once it is back.");
    setTimeout(connect, retryMs);
    retryMs = Math.min(retryMs * 2, 10000);
  };
}

function showLink(state, text) {
  $("link").dataset.state = state;
  $("link").textContent = text;
  send.disabled = state !== "on";
}

async function showModel() {
  try {
    const models = await (await fetch("/v1/models")).json();
    $("model").textContent = models.data[0]?.id ?? "";
  } catch { /* the chip stays empty; the connection chip tells the rest */ }
}

// --- one turn ---------------------------------------------------------------------------------------------------
function ask(text) {
  if (answer || !text.trim() || socket?.readyState !== WebSocket.OPEN) return;
  $("empty").hidden = true;
  history.push({ role: "user", content: text });
  addTurn("user").querySelector(".text").textContent = text;
  const messages = chosen.system.trim() ? [{ role: "system", content: chosen.system }, ...history] : history;
  answer = { id: `a${nextId++}`, node: addTurn("assistant"), text: "", tokens: 0, sent: performance.now(), first: 0 };
  answer.node.classList.add("live");
  busy(true);
  scrollDown(true);
  socket.send(JSON.stringify({
    type: "generate", id: answer.id, messages,
    temperature: Number(chosen.temperature), max_tokens: Number(chosen.max_tokens),
  }));
}

function receive(message) {
  if (!answer || message.id !== answer.id) return;
  if (message.type === "delta") {
    answer.first ||= performance.now();
    answer.text += message.text;
    draw();
  } else if (message.type === "done") {
    finish(message, "");
  } else if (message.type === "error") {
    finish(null, message.error.message);
  }
}

// Redraws at most once a frame, however fast tokens come.
let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (!answer) return;
    const follow = nearBottom();
    answer.node.querySelector(".text").replaceChildren(render(answer.text));
    if (follow) scrollDown(false);
  });
}

function finish(done, wrong) {
  const { node, text, sent, first } = answer;
  const now = performance.now();
  const follow = nearBottom();
  node.classList.remove("live");
  node.querySelector(".text").replaceChildren(render(text));
  const foot = node.querySelector(".foot");
  if (wrong) {
    const note = document.createElement("span");
    note.className = "wrong";
    note.textContent = wrong;
    foot.append(note);
    const asked = history.pop().content;  // not part of the conversation: ready to be sent again
    if (!prompt.value) prompt.value = asked;
    fitPrompt();
  }
  if (done) foot.append(figures(done, first - sent, now - first));
  if (text) {
    if (done) history.push({ role: "assistant", content: text });
    foot.append(copyButton(text));
    $("said").textContent = text;
  }
  keepHistory();
  answer = null;
  busy(false);
  if (follow) scrollDown(false);
  prompt.focus();
}

function figures(done, firstMs, restMs) {
  const span = document.createElement("span");
  const tokens = done.usage.completion_tokens;
  const parts = [`${tokens} token${tokens === 1 ? "" : "s"}`];
  if (tokens > 0 && firstMs > 0) parts.push(`first after ${Math.round(firstMs)} ms`);
  if (tokens > 1 && restMs > 0) parts.push(`${((tokens - 1) / restMs * 1000).toFixed(1)} tokens/s`);
  if (done.finish_reason === "length") parts.push("cut at the token limit");
  if (done.finish_reason === "cancelled") parts.push("stopped");
  span.className = "figures";
  span.textContent = parts.join(" · ");
  return span;
}

function copyButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.onclick = async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  return button;
}

function keepHistory() {
  try {
    sessionStorage.setItem("troupe.history", JSON.stringify(history));
  } catch { /* over the browser's quota: a reload will forget */ }
}

function showHistory() {
  history = JSON.parse(sessionStorage.getItem("troupe.history") ?? "[]");
  $("empty").hidden = history.length > 0;
  for (const { role, content } of history) {
    const turn = addTurn(role);
    const text = turn.querySelector(".text");
    if (role === "user") text.textContent = content;
    else {
      text.append(render(content));
      turn.querySelector(".foot").append(copyButton(content));
    }
  }
  scrollDown(false);
}

function addTurn(role) {
  const article = document.createElement("article");
  article.className = role;
  article.setAttribute("aria-label", role === "user" ? "You" : "Troupe");
  const text = document.createElement("div");
  text.className = "text";
  article.append(text);
  if (role === "assistant") {
    const foot = document.createElement("div");
    foot.className = "foot";
    article.append(foot);
  }
  log.append(article);
  return article;
}

function cancel() {
  if (answer && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "cancel", id: answer.id }));
}

function newChat() {
  cancel();
  answer = null;
  busy(false);
  history = [];
  keepHistory();
  log.querySelectorAll("article").forEach((turn) => turn.remove());
  $("empty").hidden = false;
  prompt.focus();
}

// --- small things -----------------------------------------------------------------------------------------------
function busy(yes) {
  send.hidden = yes;
  stop.hidden = !yes;
}
function nearBottom() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}
function scrollDown(smooth) {
  log.scrollTo({ top: log.scrollHeight, behavior: smooth ? "smooth" : "instant" });
}
function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}

$("composer").onsubmit = (e) => {
  e.preventDefault();
  if (answer || socket?.readyState !== WebSocket.OPEN) return;
  ask(prompt.value);
  prompt.value = "";
  fitPrompt();
};
prompt.oninput = fitPrompt;
prompt.onkeydown = (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    $("composer").requestSubmit();
  }
};
stop.onclick = cancel;
$("new-chat").onclick = newChat;
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && !settings.open) cancel();
  if (e.altKey && e.key.toLowerCase() === "n") { e.preventDefault(); newChat(); }
});
$("ideas").onclick = (e) => { if (e.target.tagName === "BUTTON") ask(e.target.textContent); };

// --- settings ---------------------------------------------------------------------------------------------------
const form = settings.querySelector("form");
function fillSettings() {
  for (const key of Object.keys(defaults)) form.elements[key].value = chosen[key];
  form.elements.temperature_shown.value = Number(chosen.temperature).toFixed(2);
}
form.oninput = () => {
  for (const key of Object.keys(defaults)) chosen[key] = form.elements[key].value || defaults[key];
  form.elements.temperature_shown.value = Number(chosen.temperature).toFixed(2);
  localStorage.setItem("troupe.settings", JSON.stringify(chosen));
};
form.onreset = (e) => {
  e.preventDefault();
  chosen = { ...defaults };
  localStorage.removeItem("troupe.settings");
  fillSettings();
};
$("open-settings").onclick = () => { fillSettings(); settings.showModal(); };

showHistory();
connect();
showModel();
