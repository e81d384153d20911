// Notes in the database: they outlive the release that wrote them.
import { fetchJson } from "./http.js";

export function startNotes() {
  const list = document.getElementById("notes-list");
  const input = document.getElementById("notes-input");
  const notice = document.getElementById("notes-notice");

  function item(note) {
    const line = document.createElement("li");
    const text = document.createElement("span");
    const time = document.createElement("time");
    text.textContent = note.text;
    time.dateTime = note.created;
    time.textContent = new Date(note.created).toLocaleString([], {
      day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
    });
    line.append(text, time);
    return line;
  }

  async function attempt(work) {
    notice.hidden = true;
    try {
      await work();
    } catch (error) {
      notice.textContent = error.message;
      notice.hidden = false;
    }
  }

  async function load() {
    const notes = await fetchJson("/api/notes/");
    list.replaceChildren(...notes.map(item));
    list.dataset.loaded = "";
  }

  document.getElementById("notes-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      await fetchJson("/api/notes/", { text: input.value });
      input.value = "";
      await load();
    });
  });
  attempt(load);
}
