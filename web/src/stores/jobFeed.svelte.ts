import { type Followed, type Job, SlmError, type TrainingProgress, type TrainingSample } from "slm-client";
import { client } from "./client";
import { isActive } from "./jobs.svelte";
import { poll } from "./polling.svelte";

const REFRESH_EVERY_MS = 2000; // what events do not say, such as the place in the queue
const SHOW_EVERY_MS = 80; // many pieces can come in this time

/** A job from its first event to its last, as it happens. */
export class JobFeed {
  job = $state.raw<Job | null>(null);
  error = $state.raw<SlmError | null>(null);
  text = $state("");
  /** False while the server or the network is away. */
  isConnected = $state(true);
  /** The lines for people that the job has reported. */
  lines = $state.raw<string[]>([]);
  progress = $state.raw<TrainingProgress[]>([]);
  samples = $state.raw<TrainingSample[]>([]);

  #text = "";
  #lines: string[] = [];
  #progress: TrainingProgress[] = [];
  #samples: TrainingSample[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(readonly id: string) {}

  get isActive(): boolean {
    return this.job !== null && isActive(this.job);
  }

  /** Follow it until it has ended, or until it is aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    try {
      await this.refresh();
      for await (const followed of client.jobs.follow(this.id, { signal })) this.#take(followed);
      this.#show();
      if (!signal.aborted) await this.refresh();
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      this.error = error;
    }
  }

  /** Load its record again. */
  refresh = async (): Promise<void> => {
    try {
      this.job = await client.jobs.get(this.id);
      this.error = null;
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      this.error = error;
    }
  };

  #take(followed: Followed): void {
    if (followed.kind === "connection") {
      this.isConnected = followed.isOpen;
      return;
    }
    const { frame } = followed;
    if ("text" in frame) this.#text += frame.text;
    else if ("sample" in frame) this.#samples.push(frame.sample);
    else if ("progress" in frame) this.#progress.push(frame.progress);
    else if ("status" in frame && !("device_used" in frame) && !("checkpoint" in frame)) this.#note(frame.status);
    this.#timer ??= setTimeout(() => this.#show(), SHOW_EVERY_MS);
  }

  #note(line: string): void {
    if (line !== this.#lines.at(-1)) this.#lines.push(line);
  }

  #show(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.text = this.#text;
    this.lines = [...this.#lines];
    this.progress = [...this.#progress];
    this.samples = [...this.#samples];
  }
}

/** Follow the job, and ask for its state while it is active. For use while a component is mounted. */
export function watch(feed: () => JobFeed): void {
  $effect(() => {
    const stop = new AbortController();
    void feed().follow(stop.signal);
    return () => stop.abort();
  });
  poll(async () => {
    const watched = feed();
    if (watched.isActive) await watched.refresh();
  }, REFRESH_EVERY_MS);
}
