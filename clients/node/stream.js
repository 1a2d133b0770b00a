'use strict';

const {randomUUID} = require('node:crypto');

const {Retry} = require('./retry');
const {SLMError} = require('./slm_error');
const {SSEParser} = require('./sse_parser');

const SILENCE_MS = 45_000; // an open stream has a heartbeat every 15 s

/**
 * Yields the frames of a generation as the server's document shows them: `{status}`, `{status, position}`,
 * `{text, full_text, is_complete}`. Each comes once and in order: after a broken connection, the stream continues after
 * the last frame. Throws SLMError if the server rejects the request or the job fails.
 *
 * `body` is the body of POST /slm/stream. `signal` stops reading; the server then cancels the job after a while.
 * `onJob` is called with the job's id, for `SLM.cancel`.
 */
async function* stream(url, body, {apiKey, signal, retry = {}, onJob = () => {}} = {}) {
  const reading = new Reading(url, body, {apiKey, signal, onJob});
  const failures = new Retry(retry);
  while (!reading.isOver) {
    try {
      for await (const frame of reading.connection()) {
        failures.gotOn();
        yield frame;
      }
    } catch (failure) {
      if (reading.isOver) {
        throw failure;
      }
      await failures.pauseAfter(failure, signal);
    }
  }
}

/** Yields only the pieces of text; same arguments as `stream`. */
async function* text(...args) {
  for await (const frame of stream(...args)) {
    if (frame.text) {
      yield frame.text;
    }
  }
}

/** The reading position in a stream. */
class Reading {
  constructor(url, body, {apiKey, signal, onJob}) {
    this.url = url;
    this.body = JSON.stringify(body);
    this.headers = apiKey ? {Authorization: `Bearer ${apiKey}`} : {};
    this.key = randomUUID();
    this.signal = signal;
    this.onJob = onJob;
    this.jobId = null;
    this.lastEventId = null;
    this.isOver = false;
  }

  /** Yields the new frames of one connection; throws if it ends before the job does. */
  async *connection() {
    const silence = new Silence(this.signal);
    try {
      const response = await this.open(silence.signal);
      for await (const event of events(response.body, silence)) {
        const frame = this.take(event);
        if (frame !== null) {
          yield frame;
        }
        if (this.isOver) {
          return;
        }
      }
    } finally {
      silence.end();
    }
    if (!this.isOver) {
      throw new Error(`The stream of job ${this.jobId} ended before the job did`);
    }
  }

  async open(signal) {
    const response = await (this.jobId === null ? this.post(signal) : this.resume(signal));
    if (!response.ok) {
      throw SLMError.fromAnswer(response.status, await jsonOf(response), response.headers.get('Retry-After'));
    }
    this.isOver = response.status === 204; // no new events
    if (!this.isOver && !response.headers.get('Content-Type')?.startsWith('text/event-stream')) {
      throw SLMError.badAnswer(response.url);
    }
    const jobId = response.headers.get('X-Job-Id');
    if (this.jobId === null && jobId !== null) {
      this.jobId = jobId;
      this.onJob(jobId);
    }
    return response;
  }

  /** Repeated until a response has the job's id; its key makes that safe. */
  post(signal) {
    const headers = {...this.headers, 'Content-Type': 'application/json', 'Idempotency-Key': this.key};
    return fetch(`${this.url}/slm/stream`, {method: 'POST', headers, body: this.body, signal});
  }

  resume(signal) {
    const seen = this.lastEventId === null ? {} : {'Last-Event-ID': this.lastEventId};
    const path = `/slm/jobs/${encodeURIComponent(this.jobId)}/stream`;
    return fetch(this.url + path, {headers: {...this.headers, ...seen}, signal});
  }

  /** The event's frame; null for a duplicate. Queue positions have no number and are always new. */
  take({id, data}) {
    const frame = JSON.parse(data);
    if (id !== null) {
      if (this.lastEventId !== null && Number(id) <= Number(this.lastEventId)) {
        return null;
      }
      this.lastEventId = id;
    }
    this.isOver = 'error' in frame || 'device_used' in frame;
    if ('error' in frame) {
      throw SLMError.fromFrame(frame);
    }
    return frame;
  }
}

/** Aborts after too long a silence, or with the caller's signal. */
class Silence {
  constructor(signal) {
    this.controller = new AbortController();
    this.signal = signal ? AbortSignal.any([signal, this.controller.signal]) : this.controller.signal;
    this.heard();
  }

  heard() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.controller.abort(new Error('The stream fell silent')), SILENCE_MS);
  }

  end() {
    clearTimeout(this.timer);
    this.controller.abort();
  }
}

async function* events(body, silence) {
  const parser = new SSEParser();
  const decoder = new TextDecoder();
  for await (const bytes of body ?? []) {
    silence.heard();
    yield* parser.feed(decoder.decode(bytes, {stream: true}));
  }
}

/** The response's JSON; null if it is not JSON, such as a proxy's page. */
async function jsonOf(response) {
  const raw = await response.text();
  try {
    return JSON.parse(raw);
  } catch (err) {
    if (err instanceof SyntaxError) {
      return null;
    }
    throw err;
  }
}

module.exports = {stream, text};
