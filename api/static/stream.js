// Reads a job's server-sent events with fetch, because EventSource cannot POST.

const KEY_ITEM = "slm-api-key";
const RETRY_MS = [500, 1000, 2000, 4000]; // pauses between attempts; the last one is repeated
const PATIENCE_MS = 180_000; // maximum wait for a restarting server
const TEMPORARY = new Set([null, 429, 502, 503, 504]);

/** The failure of a request, with a readable message. */
export class RequestError extends Error {
  /** `status` is null if there was no response. */
  constructor(message, status = null) {
    super(message);
    this.isTemporary = TEMPORARY.has(status);
  }
}

/** Send this API key with every request, until the tab is closed. */
export function keepKey(key) {
  sessionStorage.setItem(KEY_ITEM, key);
}

function withKey(options) {
  const key = sessionStorage.getItem(KEY_ITEM);
  return key === null ? options : { ...options, headers: { ...options.headers, "X-API-Key": key } };
}

/**
 * Like fetch, but returns only a successful response and throws a RequestError with the server's message otherwise. If
 * the server requires a (different) key, the document gets the event "key-needed".
 */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, withKey(options));
  } catch {
    throw new RequestError("The server is not reachable.");
  }
  if (response.ok) return response;
  if (response.status === 401) document.dispatchEvent(new Event("key-needed"));
  const body = await response.json().catch(() => ({}));
  throw new RequestError(body.error ?? `The server answered ${response.status}.`, response.status);
}

/** Yields the frames of one response as {id, data}; a frame with a queue position has no id. */
async function* readFrames(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.data !== undefined) yield { id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}

/** Whether this is the last frame. */
function isLast(data) {
  return "device_used" in data || "error" in data;
}

/**
 * Yields the data of all frames, from the response to POST /slm/stream to the job's end. If the connection breaks, for
 * example in a restart of the server, it reconnects after the last frame; meanwhile it yields a status.
 */
export async function* followJob(response) {
  const url = `${response.headers.get("Location")}/stream`;
  let lastId = null;
  while (response.status !== 204) {
    try {
      for await (const { id, data } of readFrames(response)) {
        lastId = id ?? lastId;
        yield data;
        if (isLast(data)) return;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // a broken connection throws a TypeError
    }
    yield { status: "The connection broke. Waiting for the server…" };
    response = await reconnect(url, lastId);
    yield { status: "" };
  }
}

/** Wait until the server is back, and return the rest of the stream. */
async function reconnect(url, lastId) {
  const deadline = Date.now() + PATIENCE_MS;
  for (let failures = 0; Date.now() < deadline; failures++) {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
    const response = await resume(url, lastId);
    if (response !== null) return response;
  }
  throw new RequestError("The connection broke, and the server has not come back.");
}

/** Return the rest of the stream; null if that fails now but may work soon. */
async function resume(url, lastId) {
  try {
    return await request(url, { headers: lastId === null ? {} : { "Last-Event-ID": lastId } });
  } catch (error) {
    if (error.isTemporary) return null;
    throw error;
  }
}
