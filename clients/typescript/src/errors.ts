/** The failure of a request or of a job, with a message for people. */
export class SlmError extends Error {
  /**
   * @param message what is wrong, and what would be right
   * @param code the server's code, such as `invalid_request`; `unreachable` if there was no response
   * @param status the HTTP status; null if there was no response, or if a job failed within a stream
   * @param param the field that is wrong, if it is one
   * @param retryAfterS when to try again, in seconds
   */
  constructor(
    message: string,
    readonly code: string,
    readonly status: number | null = null,
    readonly param: string | null = null,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
    this.name = "SlmError";
  }

  /** Whether the same request may succeed later. */
  get isTemporary(): boolean {
    return this.code === UNREACHABLE || (this.status !== null && TEMPORARY.has(this.status));
  }
}

export const UNREACHABLE = "unreachable";
const TEMPORARY = new Set([429, 502, 503, 504]);

/** Read the error of a response that is not a success. */
export async function errorOf(response: Response): Promise<SlmError> {
  const body: unknown = await response.json().catch(() => null);
  const { message, code, param } = described(body);
  const wait = Number(response.headers.get("Retry-After") ?? Number.NaN);
  return new SlmError(
    message ?? `The server answered ${response.status}.`,
    code ?? "http_error",
    response.status,
    param ?? null,
    Number.isFinite(wait) ? wait : null,
  );
}

interface Described {
  message?: string;
  code?: string;
  param?: string | null;
}

/** Read either form: `{"error": "…", "code": …}`, or OpenAI's `{"error": {"message": …}}`. */
function described(body: unknown): Described {
  if (typeof body !== "object" || body === null || !("error" in body)) return {};
  const { error } = body;
  if (typeof error === "object" && error !== null) return error as Described;
  return { ...(body as Described), message: String(error) };
}
