// A WebSocket that reconnects: it waits longer after each failure, with jitter, so that not all
// clients reconnect to a restarted server at once.
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
const SETTLED = 5_000; // only a connection that lasted this long resets the wait

export function openSocket(path, { onState, onMessage }) {
  const url = new URL(path, window.location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  let socket = null;
  let failures = 0;
  let timer = 0;
  let finished = false;

  function connect() {
    clearTimeout(timer);
    onState("connecting");
    socket = new WebSocket(url);
    let opened = 0;
    socket.addEventListener("open", () => {
      opened = performance.now();
      onState("connected");
    });
    socket.addEventListener("message", (event) => onMessage(event.data));
    socket.addEventListener("close", (event) => {
      if (finished) return;
      if (opened && performance.now() - opened > SETTLED) failures = 0;
      const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures) * (0.5 + Math.random() / 2);
      failures += 1;
      timer = setTimeout(connect, wait);
      onState("reconnecting", event.code);
    });
  }

  window.addEventListener("online", () => !finished && socket.readyState === WebSocket.CLOSED && connect());
  connect();
  return {
    send(text) {
      if (socket.readyState !== WebSocket.OPEN) return false;
      socket.send(text);
      return true;
    },
    close() {
      finished = true;
      clearTimeout(timer);
      socket.close();
    },
  };
}
