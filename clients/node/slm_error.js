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
const TRANSIENT_STATUSES = new Set([408, 429, 502, 503, 504]); // where a proxy answered, in no words of the server

/**
 * The server said no, or the job failed. `code` is the server's word for it (docs/errors.md), `status` the HTTP status
 * (0 for a job's failure), `retryAfterS` the time after which the server says that it may work.
 */
class SLMError extends Error {
  constructor(message, {code = '', status = 0, param = null, requestId = null, retryAfterS = null} = {}) {
    super(message);
    this.name = 'SLMError';
    Object.assign(this, {code, status, param, requestId, retryAfterS});
  }

  /** Whether the same request, sent again after a while, may be granted. */
  get isTransient() {
    return this.code ? TRANSIENT_CODES.has(this.code) : TRANSIENT_STATUSES.has(this.status);
  }

  /** The error of an answer that is no success. `retryAfter` is the header. */
  static fromAnswer(status, body, retryAfter) {
    const seconds = retryAfter ? Number(retryAfter) : NaN;
    const fields = {...fieldsOf(body), status, retryAfterS: Number.isFinite(seconds) ? seconds : null};
    return new SLMError(body?.error ?? `The server answered ${status}`, fields);
  }

  /** The answer is not what this API gives: probably another server's. */
  static badAnswer(url) {
    return new SLMError(`${url} does not answer as an SLM server does`, {code: 'bad_answer'});
  }

  /** The error of a stream's last frame, or of a job's `error`. */
  static fromFrame(data) {
    return new SLMError(data.error ?? data.message, fieldsOf(data));
  }
}

function fieldsOf(body) {
  return {code: body?.code ?? '', param: body?.param ?? null, requestId: body?.request_id ?? null};
}

module.exports = {SLMError};
