import { SlmError } from "./errors.js";
import type { Http } from "./http.js";
import { readEvents } from "./sse.js";
import type { Frame } from "./types.js";

const RETRY_MS = [250, 500, 1000, 2000, 4000]; // pauses between attempts; the last one is repeated
const SILENCE_MS = 45_000; // the server sends something every 15 s

export interface FollowOptions {
  /** The id of the last frame that is known already. */
  after?: string | null;
  signal?: AbortSignal | undefined;
  /** How long to wait for a server that does not answer, in milliseconds; forever by default. */
  patienceMs?: number;
}

/** What a followed stream yields: a frame of the job with its id, or that the connection is broken or back. */
export type Followed =
  | { kind: "frame"; id: string | null; frame: Frame }
  | { kind: "connection"; isOpen: boolean };

/**
 * Follow a job from its beginning, or after a known frame, to its end. If the connection breaks, if the server restarts,
 * or if it is away, the stream resumes by itself after the last frame: no frame is lost, and none comes twice.
 *
 * Throws an `SlmError` if the job cannot be followed any more. A job that fails ends with a frame that has `error`.
 */
export async function* followJob(http: Http, jobId: string, options: FollowOptions = {}): AsyncGenerator<Followed> {
  const { signal, patienceMs = Number.POSITIVE_INFINITY } = options;
  let lastId = options.after ?? null;
  let failures = 0;
  let isOpen = false;
  let deadline = Date.now() + patienceMs;
  while (!signal?.aborted) {
    try {
      const response = await open(http, jobId, lastId, signal);
      if (response === null) return; // everything was seen
      if (!isOpen) {
        isOpen = true;
        yield { kind: "connection", isOpen };
      }
      for await (const { id, data } of readEvents(withoutSilence(response, signal))) {
        failures = 0;
        deadline = Date.now() + patienceMs;
        lastId = id ?? lastId;
        const frame = JSON.parse(data) as Frame;
        if (isBreak(id, frame)) break; // opening it again tells whether the job is still there
        yield { kind: "frame", id, frame };
        if (isLast(frame)) return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof SlmError && (!error.isTemporary || Date.now() > deadline)) throw error;
      if (error instanceof SyntaxError) throw error;
    }
    if (isOpen) {
      isOpen = false;
      yield { kind: "connection", isOpen };
    }
    await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)] ?? 0, signal);
  }
}

async function open(http: Http, jobId: string, lastId: string | null, signal?: AbortSignal): Promise<Response | null> {
  const headers: Record<string, string> = lastId === null ? {} : { "Last-Event-ID": lastId };
  const response = await http.send("GET", `/slm/jobs/${encodeURIComponent(jobId)}/stream`, { headers, signal });
  return response.status === 204 ? null : response;
}

/** Whether this is the job's last frame. */
export function isLast(frame: Frame): boolean {
  return "device_used" in frame || "error" in frame;
}

/** Whether the frame is an error of the stream alone: the job's own events have ids. */
function isBreak(id: string | null, frame: Frame): boolean {
  return "error" in frame && id === null;
}

/** End the body with an error if nothing arrives for a while, as after a computer was asleep. */
function withoutSilence(response: Response, signal?: AbortSignal): ReadableStream<Uint8Array> {
  const body = response.body;
  if (body === null) throw new TypeError("The response has no body.");
  const silence = new AbortController();
  let timer: ReturnType<typeof setTimeout>;
  const wind = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new TypeError("The connection is silent.")), SILENCE_MS);
  };
  wind();
  const watched = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, out) {
      wind();
      out.enqueue(chunk);
    },
    flush: () => clearTimeout(timer),
  });
  const stop = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
  stop.addEventListener("abort", () => clearTimeout(timer), { once: true });
  body.pipeTo(watched.writable, { signal: stop }).catch(() => clearTimeout(timer));
  return watched.readable;
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done);
  });
}
