// Talks to the server (launch/arena_people.py).

/** The JSON of a GET, or of a POST of `body`. Throws an Error whose message can be shown as it is, with the `status`. */
export async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached. Is launch.arena still running? Nothing that you saw counted is lost.");
  }
  const told = await response.json().catch(() => ({}));
  if (response.ok) return told;
  const message = told.error?.message ?? `The server answered ${response.status} ${response.statusText}.`;
  throw Object.assign(new Error(message), { status: response.status });
}
