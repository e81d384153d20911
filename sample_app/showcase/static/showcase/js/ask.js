// A question and its streamed answer: lines of JSON, read as they arrive.
export async function* readLines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

export function startAsk() {
  const element = (name) => document.getElementById(`ask-${name}`);
  const answer = element("answer");

  async function ask() {
    const start = performance.now();
    answer.textContent = "";
    answer.dataset.state = "streaming";
    element("sources").replaceChildren();
    element("timing").textContent = "";
    element("send").disabled = true;
    let complete = false;
    try {
      const response = await fetch("/api/ask/", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ q: element("input").value }),
      });
      if (!response.ok) throw new Error(`The server answered ${response.status}.`);
      for await (const line of readLines(response)) {
        if (line.sources) showSources(line.sources);
        if (line.token) {
          answer.append(line.token);
          answer.scrollTop = answer.scrollHeight;
        }
        if (line.done) {
          complete = true;
          const seconds = (performance.now() - start) / 1000;
          element("timing").textContent = `${line.tokens} tokens in ${seconds.toFixed(1)} s`;
        }
      }
      if (!complete) throw new Error("The answer was cut off.");
    } catch (error) {
      element("timing").textContent = error instanceof TypeError ? "No answer from the server." : error.message;
    }
    answer.dataset.state = complete ? "done" : "failed";
    element("send").disabled = false;
  }

  function showSources(titles) {
    element("sources").replaceChildren(...titles.map((title) => {
      const item = document.createElement("li");
      item.textContent = title;
      return item;
    }));
  }

  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  ask();
}
