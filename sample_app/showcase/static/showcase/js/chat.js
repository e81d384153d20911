// The echo chat. ?say=Hi sends a first message automatically: handy for a screenshot.
import { openSocket } from "./socket.js";

const KEPT_LINES = 200;

export function startChat({ onOpen }) {
  const log = document.getElementById("chat-log");
  const input = document.getElementById("chat-input");
  const button = document.getElementById("chat-send");
  const state = document.getElementById("ws-state");
  let greeting = new URLSearchParams(window.location.search).get("say");

  function show(kind, text) {
    const line = document.createElement("li");
    line.className = kind;
    line.textContent = text;
    log.append(line);
    while (log.children.length > KEPT_LINES) log.firstChild.remove();
    log.scrollTop = log.scrollHeight;
  }

  function say(text) {
    const sent = socket.send(text);
    if (sent) show("sent", text);
    return sent;
  }

  function onState(name, code) {
    state.textContent = name;
    state.dataset.state = name;
    button.disabled = name !== "connected";
    if (name === "connected") {
      show("event", "connected");
      onOpen();
      if (greeting && say(greeting.slice(0, input.maxLength))) greeting = null;
    } else if (code !== undefined && log.lastChild?.dataset.closed === undefined) {
      show("event", `connection closed (${code}), reconnecting`);
      log.lastChild.dataset.closed = ""; // one line, however many attempts it takes
    }
  }

  function onMessage(data) {
    show("received", JSON.parse(data).message);
  }

  document.getElementById("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (say(input.value)) input.value = "";
  });

  const socket = openSocket("/ws/chat/", { onState, onMessage });
}
