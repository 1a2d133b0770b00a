'use strict';

const assert = require('node:assert/strict');
const {test} = require('node:test');

const {SSEParser} = require('../../../clients/node/sse_parser');

const STREAM = [
  ': heartbeat\n\n',
  'id: 0\ndata: {"text": "a"}\n\n',
  'data: no number\n\n',
  'id: 1\r\ndata: two\r\ndata: lines\r\n\r\n',
  'data:no blank\r\r',
  'event: other\nretry: 10\nnonsense\ndata\n\n',
  'id: 2\n\n',
  'id: 3\ndata: \u2028 is no line end, \ud83d\ude00 is one character\n\n',
  'id: 4\ndata: never finished',
].join('');
const EVENTS = [
  {id: '0', data: '{"text": "a"}'},
  {id: null, data: 'no number'},
  {id: '1', data: 'two\nlines'},
  {id: null, data: 'no blank'},
  {id: null, data: ''},
  {id: '3', data: '\u2028 is no line end, \ud83d\ude00 is one character'},
];

function parse(chunks) {
  const parser = new SSEParser();
  return chunks.flatMap((chunk) => [...parser.feed(chunk)]);
}

test('a stream in one piece gives its events', () => {
  assert.deepEqual(parse([STREAM]), EVENTS);
});

test('a stream that is split in two anywhere gives the same events', () => {
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    assert.deepEqual(parse([STREAM.slice(0, cut), STREAM.slice(cut)]), EVENTS, `cut at ${cut}`);
  }
});

test('a stream that arrives character by character gives the same events', () => {
  assert.deepEqual(parse([...STREAM]), EVENTS);
});
