// Queries through Django's async interface.
import { fetchJson } from "./http.js";
import { fillTable } from "./table.js";

export function startQueries() {
  const element = (name) => document.getElementById(`queries-${name}`);

  async function ask() {
    const notice = element("notice");
    notice.hidden = true;
    try {
      const answer = await fetchJson("/api/queries/");
      element("database").textContent = `on ${answer.database}`;
      element("timing").textContent = `${answer.ms} ms`;
      fillTable(element("list"), answer.queries.map(({ what, result, ms }) => ({ name: what, value: result, note: `${ms} ms` })));
    } catch (error) {
      notice.textContent = error.message;
      notice.hidden = false;
      element("timing").textContent = "";
    }
  }

  element("again").addEventListener("click", ask);
  ask();
}
