import { SlmError } from "./errors.js";
import { type Followed, type FollowOptions, followJob } from "./follow.js";
import type { Http, RequestOptions } from "./http.js";
import type { Accepted, ChatRequest, Generated, GenerateRequest, Job } from "./types.js";

export interface SubmitOptions {
  /** Sent as `Idempotency-Key`: the same request with the same key gives the same job. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

/** Generates answers. Every one is a job that can be followed again from anywhere. */
export class Generations {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Generate a whole answer to a prompt. */
  async generate(request: GenerateRequest, options: SubmitOptions = {}): Promise<Generated> {
    const { job_id } = await this.submit(request, options);
    for await (const _ of followJob(this.#http, job_id, { signal: options.signal })) continue;
    options.signal?.throwIfAborted();
    const job = await this.#http.json<Job<Generated>>("GET", `/slm/jobs/${job_id}`);
    if (job.error) throw new SlmError(job.error.message, job.error.code, null, job.error.param ?? null);
    if (job.result === null) throw new SlmError("The job was cancelled.", "cancelled");
    return job.result;
  }

  /** Generate an answer to a prompt, and yield its frames. The job runs to its end even if nobody reads it. */
  async *stream(request: GenerateRequest, options: SubmitOptions & FollowOptions = {}): AsyncGenerator<Followed> {
    const { job_id } = await this.submit(request, options);
    yield* followJob(this.#http, job_id, options);
  }

  /** Submit a prompt, and return its job at once. The job runs to its end even if nobody reads it. */
  submit(request: GenerateRequest, options: SubmitOptions = {}): Promise<Accepted> {
    return this.#http.json("POST", "/slm/generate", { json: { ...request, async: true }, ...sent(options) });
  }

  /** Submit a conversation, and return its job's id. The job runs to its end even if nobody reads it. */
  async submitChat(request: ChatRequest, options: SubmitOptions = {}): Promise<string> {
    const { headers, signal } = sent(options);
    const asked = { json: request, headers: { ...headers, Prefer: "respond-async" }, signal };
    return (await this.#http.json<Accepted>("POST", "/v1/chat/completions", asked)).job_id;
  }
}

function sent({ idempotencyKey, signal }: SubmitOptions): RequestOptions {
  const headers: Record<string, string> = {};
  if (idempotencyKey !== undefined) headers["Idempotency-Key"] = idempotencyKey;
  return { headers, signal };
}
