// Large files: uploaded in pieces, downloaded as a stream. A failed piece is sent again from the
// server's offset, so an upload survives a deploy.
import { fetchJson } from "./http.js";

const ATTEMPTS = 8;
const MB = 1_000_000;

export function startFiles() {
  const element = (name) => document.getElementById(`files-${name}`);
  let busy = false;

  const size = (bytes) => (bytes < MB ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / MB).toFixed(1)} MB`);

  function progress(done, total, start) {
    const percent = Math.floor((done / total) * 100);
    element("progress").value = percent;
    element("percent").textContent = `${percent}%`;
    const seconds = (performance.now() - start) / 1000;
    element("speed").textContent = seconds > 0.1 ? `${(done / MB / seconds).toFixed(1)} MB/s` : "";
  }

  const say = (text) => { element("status").textContent = text; };

  async function put(url, offset, piece) {
    for (let attempt = 1; ; attempt += 1) {
      let answer = null;
      try {
        const response = await fetch(`${url}?offset=${offset}`, {
          method: "PUT", body: piece, headers: { "Content-Type": "application/octet-stream" },
        });
        answer = await response.json().catch(() => ({}));
        if (response.ok) return answer;
        if (response.status === 409 && answer.offset !== undefined) return answer; // the server has another offset
        if (response.status < 500 || response.status === 507) attempt = ATTEMPTS;
      } catch {
        // no connection: retry
      }
      if (attempt >= ATTEMPTS) throw new Error(answer?.detail ?? "The upload failed.");
      say(`Interrupted at ${size(offset)}, trying again…`);
      await new Promise((resolve) => setTimeout(resolve, Math.min(4000, 250 * 2 ** attempt)));
    }
  }

  async function upload(name, blob) {
    const announced = await fetch("/api/files/", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name, size: blob.size }),
    });
    let known = await announced.json();
    if (!announced.ok) throw new Error(known.detail);
    const { url, chunk } = known;
    const start = performance.now();
    for (let offset = 0; offset < blob.size; offset = known.offset) {
      say(`Sending ${name}, ${size(offset)} of ${size(blob.size)}`);
      known = await put(url, offset, blob.slice(offset, offset + chunk));
      progress(known.offset, blob.size, start);
    }
    say(`${name} is on the server. SHA-256 ${known.sha256?.slice(0, 12) ?? ""}…`);
  }

  async function download(file) {
    const start = performance.now();
    const response = await fetch(file.url);
    if (!response.ok) throw new Error(`The server answered ${response.status}.`);
    const pieces = [];
    let had = 0;
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      had += value.length;
      progress(had, file.size, start);
      say(`Receiving ${file.name}, ${size(had)} of ${size(file.size)}`);
    }
    if (had !== file.size) throw new Error("The download was cut off.");
    say(`Received ${file.name}, ${await compare(new Blob(pieces), file)}.`);
  }

  async function compare(blob, { sha256 }) {
    if (!crypto.subtle) return "all of its bytes"; // browsers compute digests only on secure pages
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
    const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (hex !== sha256) throw new Error("The download differs from the uploaded file.");
    return "identical to the uploaded file";
  }

  function row(file) {
    const item = document.createElement("li");
    const name = document.createElement("span");
    const link = document.createElement("a");
    link.textContent = file.name;
    link.href = file.url;
    link.download = file.name;
    const small = document.createElement("small");
    small.textContent = size(file.size);
    name.append(link, small);
    const get = document.createElement("button");
    get.type = "button";
    get.className = "small";
    get.textContent = "Download";
    get.setAttribute("aria-label", `Download ${file.name} with progress`);
    get.addEventListener("click", () => attempt(() => download(file)));
    item.append(name, get);
    item.dataset.id = file.id;
    return item;
  }

  async function list() {
    const { files } = await fetchJson("/api/files/");
    element("list").replaceChildren(...files.filter((file) => file.complete).slice(0, 8).map(row));
    element("list").dataset.loaded = "";
  }

  async function attempt(work) {
    if (busy) return;
    busy = true;
    element("make").disabled = true;
    try {
      await work();
      await list();
    } catch (error) {
      say(error instanceof TypeError ? "No answer from the server." : error.message);
    }
    element("make").disabled = false;
    busy = false;
  }

  element("input").addEventListener("change", () => {
    const [file] = element("input").files;
    if (file) attempt(() => upload(file.name, file)).then(() => { element("input").value = ""; });
  });
  element("make").addEventListener("click", () => attempt(async () => {
    const piece = new Uint8Array(MB).map((_, place) => (place * 31 + (place >> 8)) & 255);
    await upload("made-in-your-browser.bin", new Blob(Array(20).fill(piece)));
  }));
  list().catch((error) => say(error.message));
}
