import type { Http } from "./http.js";
import type { Accepted, DatasetOptions, DatasetReport, EvaluateRequest, JobState, StoredFile, TrainRequest } from "./types.js";

/** Checks datasets, trains adapters and evaluates models. */
export class Training {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Store a dataset as a file. */
  uploadDataset(file: File): Promise<StoredFile> {
    const form = new FormData();
    form.set("purpose", "fine-tune");
    form.set("file", file);
    return this.#http.json("POST", "/v1/files", { body: form });
  }

  async deleteFile(id: string): Promise<void> {
    await this.#http.json("DELETE", `/v1/files/${encodeURIComponent(id)}`);
  }

  /** The report about a stored dataset. */
  check(fileId: string, options: DatasetOptions = {}): Promise<DatasetReport> {
    return this.#http.json("POST", "/slm/datasets/check", { json: { file_id: fileId, ...options } });
  }

  /** Start a training run; follow its job to see its progress. */
  train(request: TrainRequest): Promise<Accepted> {
    return this.#http.json("POST", "/slm/train", { json: request });
  }

  /** Measure models side by side; follow the job, whose result has the scores. */
  evaluate(request: EvaluateRequest): Promise<Accepted> {
    return this.#http.json("POST", "/slm/evaluate", { json: request });
  }

  pause(jobId: string): Promise<{ job_id: string; status: JobState }> {
    return this.#http.json("POST", path(jobId, "pause"));
  }

  resume(jobId: string): Promise<{ job_id: string; status: JobState }> {
    return this.#http.json("POST", path(jobId, "resume"));
  }

  /** Publish the adapter of a run that the gate has refused. */
  publish(jobId: string): Promise<unknown> {
    return this.#http.json("POST", path(jobId, "publish"));
  }
}

function path(jobId: string, action: string): string {
  return `/slm/jobs/${encodeURIComponent(jobId)}/${action}`;
}
