import { type Generated, isLast, type Job, SlmError } from "slm-client";
import { client } from "./client";

/** An answer that a job is writing now. Everything that follows the job sees the same object. */
export class LiveAnswer {
  text = $state("");
  /** A line about the job while it has no text yet. */
  status = $state("");
  position = $state<number | null>(null);
  waitS = $state<number | null>(null);
  /** False while the server or the network is away; the answer goes on when it is back. */
  isConnected = $state(true);
  /** When the first piece came, since the answer was asked for here; null if it was not. */
  firstTokenMs = $state<number | null>(null);
  numPieces = $state(0);
  tokensPerS = $state<number | null>(null);

  #buffer = "";
  #pieces = 0;
  #firstAt = 0;
  #frame: ReturnType<typeof setTimeout> | number | null = null;
  readonly #askedAt: number | null;

  constructor(
    readonly jobId: string,
    askedAt: number | null,
  ) {
    this.#askedAt = askedAt;
  }

  take(piece: string): void {
    const now = performance.now();
    if (this.#pieces++ === 0) {
      this.#firstAt = now;
      if (this.#askedAt !== null) this.firstTokenMs = now - this.#askedAt;
    }
    this.#buffer += piece;
    this.#frame ??= document.hidden ? setTimeout(this.show, HIDDEN_MS) : requestAnimationFrame(this.show);
  }

  /** Show what has come since the last picture: many pieces can come in the time of one. */
  show = (): void => {
    this.#frame = null;
    this.text = this.#buffer;
    this.numPieces = this.#pieces;
    const seconds = (performance.now() - this.#firstAt) / 1000;
    this.tokensPerS = this.#pieces > 1 && seconds > 0.2 ? (this.#pieces - 1) / seconds : null;
  };
}

const HIDDEN_MS = 500;

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
    const end = read(answer).finally(() => this.#live.delete(jobId));
    const entry = { answer, end };
    this.#live.set(jobId, entry);
    return entry;
  }
}

async function read(answer: LiveAnswer): Promise<EndedAnswer> {
  let text = "";
  for await (const followed of client.jobs.follow(answer.jobId)) {
    if (followed.kind === "connection") {
      answer.isConnected = followed.isOpen;
      continue;
    }
    const { frame } = followed;
    if ("text" in frame) {
      text += frame.text;
      answer.take(frame.text);
    } else if (!isLast(frame) && "status" in frame) {
      answer.status = frame.status;
      answer.position = "position" in frame ? (frame.position ?? null) : null;
      answer.waitS = "estimated_wait_s" in frame ? (frame.estimated_wait_s ?? null) : null;
    }
  }
  answer.show();
  return { job: await finished(answer.jobId), rawText: text };
}

/** The record of a job that has ended. Waits for a server that is away. */
async function finished(jobId: string): Promise<Job<Generated>> {
  for (;;) {
    try {
      return await client.jobs.get<Generated>(jobId);
    } catch (error) {
      if (!(error instanceof SlmError) || !error.isTemporary) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

export const answers = new Answers();
