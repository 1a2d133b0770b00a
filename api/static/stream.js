// A job's server-sent events, read with fetch: EventSource cannot POST.

const KEY_ITEM = "slm-api-key";
const RETRY_MS = [500, 1000, 2000, 4000]; // pauses between tries; the last one again and again
const PATIENCE_MS = 180_000; // for how long a server that is being restarted is waited for
const TEMPORARY = new Set([null, 429, 502, 503, 504]);

/** The failure of a request, with a message for people. */
export class RequestError extends Error {
  /** `status` is null where no answer came at all. */
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
 * fetch that gives an answer of success or throws a RequestError with what the server said. Where it wants a key, or
 * another one, the document gets the event "key-needed".
 */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, withKey(options));
  } catch {
    throw new RequestError("The server cannot be reached.");
  }
  if (response.ok) return response;
  if (response.status === 401) document.dispatchEvent(new Event("key-needed"));
  const body = await response.json().catch(() => ({}));
  throw new RequestError(body.error ?? `The server answered ${response.status}.`, response.status);
}

/** The frames of one response, as {id, data}; one that tells of a place in line has no id. */
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

/** Whether nothing can follow. */
function isLast(data) {
  return "device_used" in data || "error" in data;
}

/**
 * The frames' data from the response to POST /slm/stream on, up to the job's end. A connection that breaks, as in a
 * restart of the server, is taken up again behind the last frame that came; a status says so meanwhile.
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
      if (!(error instanceof TypeError)) throw error; // what a broken connection throws
    }
    yield { status: "The connection broke. Waiting for the server…" };
    response = await takeUpAgain(url, lastId);
    yield { status: "" };
  }
}

/** The rest of the stream, once the server is back. */
async function takeUpAgain(url, lastId) {
  const deadline = Date.now() + PATIENCE_MS;
  for (let failures = 0; Date.now() < deadline; failures++) {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
    const response = await resume(url, lastId);
    if (response !== null) return response;
  }
  throw new RequestError("The connection broke, and the server has not come back.");
}

/** The rest of the stream; null where it cannot be had now, but perhaps soon. */
async function resume(url, lastId) {
  try {
    return await request(url, { headers: lastId === null ? {} : { "Last-Event-ID": lastId } });
  } catch (error) {
    if (error.isTemporary) return null;
    throw error;
  }
}
