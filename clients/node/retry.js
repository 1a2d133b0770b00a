'use strict';

const {setTimeout: sleep} = require('node:timers/promises');

const {SLMError} = require('./slm_error');

/**
 * Exponential pauses with jitter. The default gives a restarting server 15 to 30 s: a streamed job survives 30 s without
 * a reader. `patienceMs` is the longest accepted Retry-After.
 */
const POLICY = {attempts: 8, firstMs: 250, mostMs: 8000, patienceMs: 120_000};

/** Counts one call's failures since its last progress. */
class Retry {
  constructor(policy = {}) {
    this.policy = {...POLICY, ...policy};
    this.failures = 0;
  }

  /** Reset the count of failures after progress. */
  gotOn() {
    this.failures = 0;
  }

  /** Wait before the next attempt; throws `failure` if a retry is pointless. */
  async pauseAfter(failure, signal) {
    this.failures += 1;
    signal?.throwIfAborted();
    const {attempts, patienceMs} = this.policy;
    const askedMs = failure instanceof SLMError && failure.retryAfterS !== null ? failure.retryAfterS * 1000 : null;
    const isHopeless = failure instanceof SLMError && !failure.isTransient;
    if (isHopeless || this.failures > attempts || askedMs > patienceMs) {
      throw failure;
    }
    await sleep(this.pauseMs(askedMs, Math.random()), undefined, {signal});
  }

  /** Never shorter than the server's Retry-After; `luck`, from 0 to 1, spreads the clients of a restarted server. */
  pauseMs(askedMs, luck) {
    const {firstMs, mostMs} = this.policy;
    if (askedMs !== null) {
      return askedMs + firstMs * luck;
    }
    return (Math.min(mostMs, firstMs * 2 ** (this.failures - 1)) * (1 + luck)) / 2;
  }
}

module.exports = {Retry};
