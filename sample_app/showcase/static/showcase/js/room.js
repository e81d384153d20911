// The chat room. Every line shows which worker received the message. ?room=name enters another room.
import { openSocket } from "./socket.js";

const KEPT_LINES = 200;

export function startRoom() {
  const element = (name) => document.getElementById(`room-${name}`);
  const log = element("log");
  const input = element("input");
  const asked = new URLSearchParams(window.location.search).get("room") ?? "";
  const room = /^[A-Za-z0-9_-]{1,40}$/.test(asked) ? asked : "lobby";
  const me = `guest ${Math.floor(1000 + Math.random() * 9000)}`;
  let here = null;
  element("name").textContent = room;

  function line(kind, text, note) {
    const item = document.createElement("li");
    item.className = kind;
    item.textContent = text;
    if (note) {
      const small = document.createElement("small");
      small.textContent = note;
      item.append(small);
    }
    log.append(item);
    while (log.children.length > KEPT_LINES) log.firstChild.remove();
    log.scrollTop = log.scrollHeight;
    return item;
  }

  const called = ({ host, worker }) => `${host}:${worker}`;

  function route({ via, through }) {
    if (called(via) === called(through)) return `same worker, ${called(via)}`;
    return `${called(via)} → ${called(through)}`;
  }

  function setState(name, text = name) {
    element("state").textContent = text;
    element("state").dataset.state = name;
  }

  const kinds = {
    welcome({ through }) {
      here = through;
      element("worker").textContent = `on ${called(through)}`;
    },
    live({ live }) {
      element("send").disabled = !live;
      setState(live ? "connected" : "waiting", live ? "connected" : "waiting for Redis");
      line("event", live ? `you are ${me}, on ${called(here)}` : "Redis does not answer; others cannot see your messages");
    },
    message(message) {
      const own = message.name === me;
      const item = line(own ? "sent" : "received", message.text, `${own ? "" : `${message.name} · `}${route(message)}`);
      item.dataset.via = called(message.via);
      item.dataset.through = called(message.through);
    },
    error({ detail, text }) {
      line("event", detail);
      if (text && !input.value) input.value = text; // keep the undelivered text
    },
  };

  function onState(name, code) {
    if (name === "connected") return; // the room's "live" message follows
    setState(name);
    element("send").disabled = true;
    if (code !== undefined && log.lastChild?.dataset.closed === undefined) {
      line("event", `connection closed (${code}), reconnecting`).dataset.closed = "";
    }
  }

  const socket = openSocket(`/ws/room/${room}/`, {
    onState,
    onMessage(data) {
      const { type, ...values } = JSON.parse(data);
      kinds[type]?.(values);
    },
  });

  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (socket.send(JSON.stringify({ text: input.value, name: me }))) input.value = "";
  });
}
