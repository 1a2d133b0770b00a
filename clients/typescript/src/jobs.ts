import { type Followed, type FollowOptions, followJob } from "./follow.js";
import type { Http } from "./http.js";
import type { Accepted, DeadLetter, Feedback, FeedbackDataset, FeedbackDatasetRequest, FeedbackPage, FeedbackQuery, FeedbackRequest, Job, JobState, JobSummary } from "./types.js";

/** Shows, follows and cancels jobs of any kind, and keeps feedback on answers. */
export class Jobs {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** The newest jobs: the caller's own, an admin's everybody's; with `q` those with this text, also in prompts of your own. */
  async list(limit?: number, { q }: { q?: string } = {}): Promise<JobSummary[]> {
    return (await this.#http.json<{ jobs: JobSummary[] }>("GET", "/slm/jobs", { query: { limit, q } })).jobs;
  }

  get<Result = unknown>(id: string, signal?: AbortSignal): Promise<Job<Result>> {
    return this.#http.json("GET", path(id), { signal });
  }

  /** Yield the frames of the job; see `followJob`. */
  follow(id: string, options: FollowOptions = {}): AsyncGenerator<Followed> {
    return followJob(this.#http, id, options);
  }

  cancel(id: string): Promise<{ job_id: string; status: JobState; cancelling: boolean }> {
    return this.#http.json("DELETE", path(id));
  }

  /** The jobs that were set aside after their workers had died. For admins. */
  async deadLetters(): Promise<DeadLetter[]> {
    return (await this.#http.json<{ jobs: DeadLetter[] }>("GET", "/slm/quarantine")).jobs;
  }

  /** Run a dead letter again, as a new job. */
  retry(id: string): Promise<Accepted> {
    return this.#http.json("POST", path(id, "/retry"));
  }

  /** Remove a dead letter. */
  async drop(id: string): Promise<void> {
    await this.#http.json("DELETE", `/slm/quarantine/${encodeURIComponent(id)}`);
  }

  /** Say what you think of an answer; replaces what you said before. */
  giveFeedback(id: string, feedback: FeedbackRequest): Promise<Feedback> {
    return this.#http.json("POST", path(id, "/feedback"), { json: feedback });
  }

  feedback(id: string): Promise<Feedback> {
    return this.#http.json("GET", path(id, "/feedback"));
  }

  async deleteFeedback(id: string): Promise<void> {
    await this.#http.json("DELETE", path(id, "/feedback"));
  }

  /** A page of the feedback on your jobs, the latest change first; an admin's, on everybody's. */
  listFeedback(wanted: FeedbackQuery = {}): Promise<FeedbackPage> {
    return this.#http.json("GET", "/slm/feedback", { query: { ...wanted } });
  }

  /** Make a dataset of feedback, stored as a file. */
  feedbackDataset(wanted: FeedbackDatasetRequest = {}): Promise<FeedbackDataset> {
    return this.#http.json("POST", "/slm/feedback/dataset", { json: wanted });
  }
}

function path(id: string, rest = ""): string {
  return `/slm/jobs/${encodeURIComponent(id)}${rest}`;
}
