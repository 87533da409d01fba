// The server's API: requests with the key of this tab, and the events of a streamed answer.

const KEY = "gollama.key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

export async function request(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit",
  });
  if (!response.ok) throw new Error(await reason(response));
  return response;
}

async function reason(response) {
  let told = "";
  try {
    told = (await response.json()).error.message;
  } catch {
    // no body, or none of ours
  }
  if (response.status === 401) return `${told || "The server asks for a key"} (Settings: API key)`;
  return told || `The server answered ${response.status}`;
}

// The JSON of each event, until the server says that there are no more.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The connection ended in the middle of the answer");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}
