'use strict';

/**
 * Parses server-sent events from text that may be split anywhere (WHATWG HTML, section 9.2). Comments and events without
 * data are ignored. An event without its own `id` has the id null: ids are not inherited by later events.
 */
class SSEParser {
  constructor() {
    this.rest = '';
    this.data = [];
    this.id = null;
  }

  /** Yields the events that `chunk` completes. */
  *feed(chunk) {
    // A CR at the very end may be half of a CR LF, so it stays for the next chunk.
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
