import { errorOf, SlmError, UNREACHABLE } from "./errors.js";

export interface ClientOptions {
  /** Where the server is, such as `http://127.0.0.1:5000`; in a page of the server, nothing. */
  baseUrl?: string;
  /** The API key, or a function that returns the current one. */
  apiKey?: string | null | (() => string | null);
  /** Called with every error of a request, for example to ask for a key after a 401. */
  onError?: (error: SlmError) => void;
  /** Replaces `fetch`. */
  fetch?: typeof fetch;
}

export interface RequestOptions {
  /** A value to send as JSON. */
  json?: unknown;
  /** A body to send unchanged. */
  body?: BodyInit;
  headers?: Record<string, string>;
  /** A list is sent as the same name several times. */
  query?: Record<string, string | number | boolean | string[] | undefined>;
  signal?: AbortSignal | undefined;
  /** Replaces `fetch` for this request. */
  fetch?: typeof fetch | undefined;
}

/** Sends requests with the key, and turns failures into an `SlmError`. */
export class Http {
  readonly #baseUrl: string;
  readonly #options: ClientOptions;

  constructor(options: ClientOptions = {}) {
    this.#baseUrl = (options.baseUrl ?? "").replace(/\/+$/, "");
    this.#options = options;
  }

  /** Send a request and read the JSON of its response. */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.send(method, path, options);
    return response.json() as Promise<T>;
  }

  /** Send a request; returns only a successful response. Throws an `SlmError`; an abort is thrown unchanged. */
  async send(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    try {
      const response = await this.#fetch(method, path, options);
      if (response.ok) return response;
      throw await errorOf(response);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      const known = error instanceof SlmError ? error : new SlmError("The server is not reachable.", UNREACHABLE);
      this.#options.onError?.(known);
      throw known;
    }
  }

  #fetch(method: string, path: string, options: RequestOptions): Promise<Response> {
    const { json, body = json === undefined ? null : JSON.stringify(json) } = options;
    const headers: Record<string, string> = { ...this.#keyHeader(), ...options.headers };
    if (json !== undefined) headers["Content-Type"] = "application/json";
    const send = options.fetch ?? this.#options.fetch ?? fetch;
    return send(this.#baseUrl + path + queryOf(options.query), { method, body, headers, signal: options.signal ?? null });
  }

  #keyHeader(): Record<string, string> {
    const { apiKey } = this.#options;
    const key = typeof apiKey === "function" ? apiKey() : apiKey;
    return key ? { "X-API-Key": key } : {};
  }
}

function queryOf(query: RequestOptions["query"] = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) params.append(name, String(one));
  }
  return params.size ? `?${params}` : "";
}
