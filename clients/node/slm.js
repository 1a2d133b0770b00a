'use strict';

const {randomUUID} = require('node:crypto');
const {setTimeout: sleep} = require('node:timers/promises');

const axios = require('axios');

const {Retry} = require('./retry');
const {SLMError} = require('./slm_error');

const ANSWER_MS = 150_000; // the server answers 202 after 120 s at the latest (SLM_SYNC_TIMEOUT_S)
const FIRST_POLL_MS = 100;
const SLOWEST_POLL_MS = 2000;

/** One server. Throws SLMError if it rejects a request, after retries if those can help; no job is created twice. */
class SLM {
  constructor(url = 'http://127.0.0.1:5000', {apiKey, retry = {}} = {}) {
    const headers = apiKey ? {Authorization: `Bearer ${apiKey}`} : {};
    this.http = axios.create({baseURL: url, headers, timeout: ANSWER_MS, validateStatus: () => true});
    this.retry = retry;
  }

  /** The server's state: model, device, queue, workers. */
  async info() {
    return (await this.ask('GET', '/slm/info')).data;
  }

  /** Load the model on every worker. */
  async load() {
    return (await this.post('/slm/load', {})).data;
  }

  /** The complete answer, however long it takes; `response` is its text. docs/api.md of the server lists the options. */
  async generate(prompt, options = {}) {
    const {status, data} = await this.post('/slm/generate', {prompt, ...options});
    return status === 202 ? this.wait(data.job_id) : data;
  }

  /** Start a generation in the background; returns the job's id for `poll`, `wait` and `cancel`. */
  async submit(prompt, options = {}) {
    return (await this.post('/slm/generate', {prompt, ...options, async: true})).data.job_id;
  }

  /** The job's current state: `status`, `position` in the queue, `text` so far, `result`, `error`. */
  async poll(jobId) {
    return (await this.ask('GET', `/slm/jobs/${encodeURIComponent(jobId)}`)).data;
  }

  /** Poll until the job has ended; returns its result. */
  async wait(jobId) {
    let pauseMs = FIRST_POLL_MS;
    let job = await this.poll(jobId);
    while (job.status === 'queued' || job.status === 'running') {
      await sleep(pauseMs);
      pauseMs = Math.min(SLOWEST_POLL_MS, pauseMs * 1.5);
      job = await this.poll(jobId);
    }
    if (job.status !== 'succeeded') {
      throw job.error ? SLMError.fromFrame(job.error) : new SLMError('The job was cancelled', {code: 'cancelled'});
    }
    return job.result;
  }

  /** Cancel the job; returns its status. */
  async cancel(jobId) {
    return (await this.ask('DELETE', `/slm/jobs/${encodeURIComponent(jobId)}`)).data.status;
  }

  post(path, data) {
    return this.ask('POST', path, {data, headers: {'Idempotency-Key': randomUUID()}});
  }

  async ask(method, url, config = {}) {
    const failures = new Retry(this.retry);
    for (;;) {
      try {
        const response = await this.http.request({method, url, ...config});
        if (response.status < 300 && typeof response.data === 'object') {
          return response;
        }
        if (response.status < 300) {
          throw SLMError.badAnswer(this.http.getUri({url}));
        }
        throw SLMError.fromAnswer(response.status, response.data, response.headers['retry-after']);
      } catch (failure) {
        await failures.pauseAfter(failure);
      }
    }
  }
}

module.exports = {SLM};
