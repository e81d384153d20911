// HTTP requests that the server sends.
import { fetchJson } from "./http.js";
import { fillTable } from "./table.js";

export function startOutgoing() {
  const element = (name) => document.getElementById(`outgoing-${name}`);

  async function ask() {
    try {
      const answer = await fetchJson("/api/outgoing/");
      element("asked").textContent = `Requested with httpx: ${answer.asked}.`;
      element("timing").textContent = `${answer.ms} ms`;
      fillTable(element("list"), answer.answers.map(({ status, ms }, place) => ({ name: `request ${place + 1}`, value: status, note: `${ms} ms` })));
    } catch (error) {
      element("asked").textContent = error.message;
      element("timing").textContent = "";
    }
  }

  element("again").addEventListener("click", ask);
  ask();
}
