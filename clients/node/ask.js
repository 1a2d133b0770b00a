#!/usr/bin/env node
'use strict';

const {text} = require('./stream');

const USAGE = 'usage: node ask.js PROMPT    (SLMCLIENT_URL, SLMCLIENT_API_KEY: the server and its key)';

/** Send the prompt from the command line, and print the answer as it is generated. */
async function main([prompt], env) {
  if (!prompt) {
    throw new Error(USAGE);
  }
  const url = env.SLMCLIENT_URL ?? 'http://127.0.0.1:5000';
  for await (const piece of text(url, {prompt}, {apiKey: env.SLMCLIENT_API_KEY})) {
    process.stdout.write(piece);
  }
  process.stdout.write('\n');
}

main(process.argv.slice(2), process.env).catch((err) => {
  console.error(err.message);
  process.exitCode = 1;
});
