// JSON over HTTP. Throws an Error with a sentence to show if the request fails.
export async function fetchJson(path, body) {
  const options = { headers: { Accept: "application/json" }, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("No answer from the server.");
  }
  if (!response.ok) {
    const { detail } = await response.json().catch(() => ({}));
    throw new Error(typeof detail === "string" ? detail : `The server answered ${response.status}.`);
  }
  return response.json();
}
