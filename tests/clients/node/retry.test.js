'use strict';

const assert = require('node:assert/strict');
const {test} = require('node:test');

const {Retry} = require('../../../clients/node/retry');
const {SLMError} = require('../../../clients/node/slm_error');

test('pauses double up to their limit', () => {
  const retry = new Retry({firstMs: 100, mostMs: 500});
  const pauses = [1, 2, 3, 4].map((failures) => {
    retry.failures = failures;
    return retry.pauseMs(null, 1);
  });
  assert.deepEqual(pauses, [100, 200, 400, 500]);
});

test('a pause is never shorter than the server asked for', () => {
  assert.equal(new Retry({firstMs: 100}).pauseMs(7000, 0), 7000);
});

test('progress resets the number of attempts', async () => {
  const retry = new Retry({attempts: 1, firstMs: 1});
  const failure = new Error('gone');
  await retry.pauseAfter(failure);
  retry.gotOn();
  await retry.pauseAfter(failure);
  await assert.rejects(retry.pauseAfter(failure), failure);
});

test('permanent failures are thrown at once', async () => {
  const hopeless = [
    SLMError.fromAnswer(400, {error: 'wrong', code: 'invalid_request'}),
    SLMError.fromAnswer(503, {error: 'no model', code: 'model_unavailable'}),
    SLMError.fromAnswer(503, {error: 'full', code: 'queue_full'}, '3600'),
    SLMError.fromFrame({error: 'lost', code: 'worker_lost'}),
  ];
  for (const failure of hopeless) {
    await assert.rejects(new Retry().pauseAfter(failure), failure);
  }
});

test("a proxy's refusal is classified by its status", () => {
  assert.equal(SLMError.fromAnswer(502, '<html>').isTransient, true);
  assert.equal(SLMError.fromAnswer(401, '<html>').isTransient, false);
});
