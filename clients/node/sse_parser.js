'use strict';

/**
 * Server-sent events out of text that is cut anywhere (WHATWG HTML, section 9.2). Comments and events without data give
 * nothing. An event's `id` is its own, or null: ids are not handed on to the events behind it.
 */
class SSEParser {
  constructor() {
    this.rest = '';
    this.data = [];
    this.id = null;
  }

  /** The events that `chunk` completes. */
  *feed(chunk) {
    // A CR at the very end may be half of a CR LF: it waits for the next chunk.
    const lines = (this.rest + chunk).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        yield* this.dispatch();
      } else {
        this.take(line);
      }
    }
  }

  *dispatch() {
    if (this.data.length > 0) {
      yield {id: this.id, data: this.data.join('\n')};
    }
    this.data = [];
    this.id = null;
  }

  take(line) {
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === 'data') {
      this.data.push(value ?? '');
    } else if (field === 'id' && !(value ?? '').includes('\0')) {
      this.id = value ?? '';
    }
  }
}

module.exports = {SSEParser};
