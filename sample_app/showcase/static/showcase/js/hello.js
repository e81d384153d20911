// The greeting, fetched on load and on demand.
import { fetchJson } from "./http.js";

export function startHello() {
  const output = document.getElementById("hello-output");
  const timing = document.getElementById("hello-timing");

  async function ask() {
    const start = performance.now();
    try {
      output.textContent = JSON.stringify(await fetchJson("/api/hello/"), null, 2);
      timing.textContent = `${Math.round(performance.now() - start)} ms`;
    } catch (error) {
      output.textContent = error.message;
      timing.textContent = "";
    }
  }

  document.getElementById("hello-again").addEventListener("click", ask);
  ask();
}
