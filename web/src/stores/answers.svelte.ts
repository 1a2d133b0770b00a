import { type Generated, isLast, type Job } from "slm-client";
import { client } from "./client";
import { patiently } from "./patience";

/** An answer that a job is writing now. Everything that follows the job sees the same object. */
export class LiveAnswer {
  text = $state("");
  /** A line about the job while it has no text yet. */
  status = $state("");
  position = $state<number | null>(null);
  waitS = $state<number | null>(null);
  /** False while the server or the network is away; the answer goes on when it is back. */
  isConnected = $state(true);
  /** True if nothing has come for a while after a first piece, as when another worker takes the job over. */
  isStalled = $state(false);
  /** When the first piece came, since the answer was asked for here; null if it was not. */
  firstTokenMs = $state<number | null>(null);
  numTokens = $state(0);
  tokensPerS = $state<number | null>(null);

  #buffer = "";
  #tokens = 0;
  /** What there was when a text was first shown: after a reload most of the answer, which says nothing of its speed. */
  #start: { at: number; tokens: number } | null = null;
  #frame: ReturnType<typeof setTimeout> | number | null = null;
  #silence: ReturnType<typeof setTimeout> | undefined;
  readonly #askedAt: number | null;

  constructor(
    readonly jobId: string,
    askedAt: number | null,
  ) {
    this.#askedAt = askedAt;
  }

  take(piece: string, numTokens: number): void {
    if (this.#tokens === 0 && this.#askedAt !== null) this.firstTokenMs = performance.now() - this.#askedAt;
    this.#tokens += numTokens;
    this.#buffer += piece;
    this.#frame ??= document.hidden ? setTimeout(this.show, HIDDEN_MS) : requestAnimationFrame(this.show);
  }

  /** Show what has come since the last picture: many pieces can come in the time of one. */
  show = (): void => {
    this.#frame = null;
    this.text = this.#buffer;
    this.numTokens = this.#tokens;
    this.#start ??= { at: performance.now(), tokens: this.#tokens };
    const seconds = (performance.now() - this.#start.at) / 1000;
    const more = this.#tokens - this.#start.tokens;
    this.tokensPerS = more > 0 && seconds > 0.2 ? more / seconds : null;
    this.isStalled = false;
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => (this.isStalled = true), SILENCE_MS);
  };

  /** Show everything; nothing more will come. */
  close(): void {
    this.show();
    clearTimeout(this.#silence);
  }
}

const HIDDEN_MS = 500;
const SILENCE_MS = 3000;

export interface EndedAnswer {
  job: Job<Generated>;
  /** The text with the white space at its beginning, which the job's result does not have. */
  rawText: string;
}

/** The answers that are being written, by the ids of their jobs. */
class Answers {
  readonly #live = new Map<string, { answer: LiveAnswer; end: Promise<EndedAnswer> }>();

  /**
   * Follow a job to its end, if that is not done already.
   *
   * `askedAt` is when the answer was asked for (`performance.now()`). The end is rejected with an `SlmError` if the job
   * cannot be followed any more.
   */
  follow(jobId: string, askedAt: number | null = null): { answer: LiveAnswer; end: Promise<EndedAnswer> } {
    const known = this.#live.get(jobId);
    if (known !== undefined) return known;
    const answer = new LiveAnswer(jobId, askedAt);
    const end = read(answer).finally(() => {
      answer.close();
      this.#live.delete(jobId);
    });
    const entry = { answer, end };
    this.#live.set(jobId, entry);
    return entry;
  }
}

async function read(answer: LiveAnswer): Promise<EndedAnswer> {
  let text = "";
  let lastId = -1; // the numbers of events count the tokens: after a reload, one frame has many
  for await (const followed of client.jobs.follow(answer.jobId)) {
    if (followed.kind === "connection") {
      answer.isConnected = followed.isOpen;
      continue;
    }
    const { frame } = followed;
    const id = Number(followed.id ?? lastId);
    if ("text" in frame) {
      text += frame.text;
      answer.take(frame.text, id - lastId);
    } else if (!isLast(frame) && "status" in frame) {
      answer.status = frame.status;
      answer.position = "position" in frame ? (frame.position ?? null) : null;
      answer.waitS = "estimated_wait_s" in frame ? (frame.estimated_wait_s ?? null) : null;
    }
    lastId = id;
  }
  return { job: await patiently(() => client.jobs.get<Generated>(answer.jobId)), rawText: text };
}

export const answers = new Answers();
