'use strict';

const TRANSIENT_CODES = new Set([
  'queue_full',
  'no_worker',
  'redis_unavailable',
  'redis_full',
  'overloaded',
  'server_stopping',
  'rate_limit_exceeded',
  'request_timeout',
]);
const TRANSIENT_STATUSES = new Set([408, 429, 502, 503, 504]); // for responses of a proxy, which have no code

/**
 * The server rejected the request, or the job failed. `code` is the server's error code (docs/errors.md), `status` the
 * HTTP status (0 for a failed job), `retryAfterS` the seconds after which the server suggests a retry.
 */
class SLMError extends Error {
  constructor(message, {code = '', status = 0, param = null, requestId = null, retryAfterS = null} = {}) {
    super(message);
    this.name = 'SLMError';
    Object.assign(this, {code, status, param, requestId, retryAfterS});
  }

  /** Whether the same request may succeed later. */
  get isTransient() {
    return this.code ? TRANSIENT_CODES.has(this.code) : TRANSIENT_STATUSES.has(this.status);
  }

  /** The error for an unsuccessful response. `retryAfter` is the header. */
  static fromAnswer(status, body, retryAfter) {
    const seconds = retryAfter ? Number(retryAfter) : NaN;
    const fields = {...fieldsOf(body), status, retryAfterS: Number.isFinite(seconds) ? seconds : null};
    return new SLMError(body?.error ?? `The server answered ${status}`, fields);
  }

  /** The error for a response that is not from this API, probably from another server. */
  static badAnswer(url) {
    return new SLMError(`${url} does not answer like an SLM server`, {code: 'bad_answer'});
  }

  /** The error in a stream's last frame or in a job's `error`. */
  static fromFrame(data) {
    return new SLMError(data.error ?? data.message, fieldsOf(data));
  }
}

function fieldsOf(body) {
  return {code: body?.code ?? '', param: body?.param ?? null, requestId: body?.request_id ?? null};
}

module.exports = {SLMError};
