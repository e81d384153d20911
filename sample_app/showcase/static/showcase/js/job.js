// A background job: started over HTTP, watched over a WebSocket until it ends.
import { fetchJson } from "./http.js";
import { openSocket } from "./socket.js";

const ENDED = ["done", "failed"];

export function startJob() {
  const element = (name) => document.getElementById(`job-${name}`);
  let socket = null;

  function show(job) {
    element("state").textContent = job.state;
    element("state").dataset.state = job.state;
    element("progress").value = job.percent;
    element("percent").textContent = `${job.percent}%`;
    element("runner").textContent = job.runner === "celery" ? "Celery" : "a thread of the web worker";
    element("worker").textContent = job.host ? `${job.host}:${job.worker}` : "not started";
    element("attempts").textContent = job.attempts;
    element("id").textContent = `job ${job.id}`;
    if (job.completions) {
      const times = job.completions.length;
      element("completions").textContent = times === 0 ? "not yet" : times === 1 ? "once" : `${times} times!`;
    }
    if (job.state !== "queued") say("");
    if (ENDED.includes(job.state)) {
      socket?.close();
      element("start").disabled = false;
    }
  }

  function say(text) {
    element("notice").textContent = text;
    element("notice").hidden = !text;
  }

  function watch(job) {
    socket = openSocket(`/ws/jobs/${job.id}/`, {
      onState() {},
      onMessage(data) {
        const message = JSON.parse(data);
        if (message.job) show(message.job);
        else say(message.detail);
      },
    });
  }

  element("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    element("start").disabled = true;
    say("");
    try {
      const job = await fetchJson("/api/jobs/", { seconds: element("seconds").valueAsNumber });
      show(job);
      if (job.detail) say(job.detail);
      watch(job);
    } catch (error) {
      say(error.message);
      element("start").disabled = false;
    }
  });
}
