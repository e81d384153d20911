// The services of the worker that answers, refreshed every few seconds while the page is visible.
import { fetchJson } from "./http.js";

const INTERVAL = 5_000;

export function startStatus() {
  const parts = [...document.querySelectorAll("#status-components .part")];

  function show(part, { state, kind, detail, ms }) {
    part.dataset.state = state;
    part.querySelector("strong").textContent = kind;
    part.querySelector("small").textContent = ms === undefined ? detail : `${detail} · ${Math.ceil(ms)} ms`;
  }

  async function refresh() {
    try {
      const { host, components } = await fetchJson("/api/status/");
      document.getElementById("host-name").textContent = host;
      for (const part of parts) show(part, components[part.id.replace("status-", "")]);
    } catch {
      for (const part of parts) part.dataset.state = "unknown";
    }
  }

  setInterval(() => document.hidden || refresh(), INTERVAL);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  refresh();
}
