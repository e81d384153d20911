// The release and worker that answer now, refreshed at intervals, so that a deploy becomes visible.
import { fetchJson } from "./http.js";

const INTERVAL = 10_000;
const element = (id) => document.getElementById(id);

export function startRelease() {
  let current = element("release").textContent;

  async function refreshRelease() {
    let answer;
    try {
      answer = await fetchJson("/api/whoami/");
    } catch (error) {
      element("release-age").textContent = "unreachable";
      return;
    }
    element("release").textContent = answer.release;
    element("worker-pid").textContent = answer.pid;
    element("python-version").textContent = answer.python;
    element("client-address").textContent = answer.client ?? "unknown";
    element("release-age").textContent = `as of ${new Date().toLocaleTimeString()}`;
    if (answer.release !== current) {
      const notice = element("release-notice");
      notice.textContent = `Now served by ${answer.release}, previously by ${current}.`;
      notice.hidden = false;
      current = answer.release;
    }
  }

  setInterval(() => document.hidden || refreshRelease(), INTERVAL);
  document.addEventListener("visibilitychange", () => document.hidden || refreshRelease());
  refreshRelease();
  return { refreshRelease };
}
