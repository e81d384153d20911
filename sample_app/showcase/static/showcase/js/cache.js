// A value that is slow to make, and how often the cache had it.
import { fetchJson } from "./http.js";

export function startCache() {
  const element = (name) => document.getElementById(`cache-${name}`);

  function sentence({ available, hit, backend, value }) {
    if (!available) return "The cache does not answer; the value was made without it.";
    const where = backend === "redis" ? "Redis, shared by all workers" : "the local memory of one worker";
    const maker = `${value.made_by.host}:${value.made_by.worker}`;
    return hit ? `Made by ${maker}, kept in ${where}.` : `Made just now, kept in ${where} for 15 s.`;
  }

  async function ask() {
    try {
      const answer = await fetchJson("/api/cache/");
      element("hits").textContent = answer.hits ?? "–";
      element("misses").textContent = answer.misses ?? "–";
      element("result").textContent = sentence(answer);
      element("timing").textContent = `${answer.hit ? "hit" : "miss"}, ${answer.ms} ms`;
    } catch (error) {
      element("result").textContent = error.message;
      element("timing").textContent = "";
    }
  }

  element("again").addEventListener("click", ask);
  ask();
}
