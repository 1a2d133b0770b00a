import { type DatasetOptions, type DatasetReport, type FeedbackDataset, type FeedbackDatasetRequest, type JobSummary, SlmError } from "slm-client";
import { client } from "./client";
import { Loaded } from "./loaded.svelte";

const MAX_LISTED = 1000; // of the server, whose list has jobs of all kinds

/** The newest training runs. */
export const runs = new Loaded(async (): Promise<JobSummary[]> => (await client.jobs.list(MAX_LISTED)).filter(({ kind }) => kind === "train"));

/** A dataset that is stored on the server, and what the server has found in it. */
export class Dataset {
  fileId = $state<string | null>(null);
  /** What to call it. */
  name = $state("");
  bytes = $state(0);
  /** What it was made of, if of feedback. */
  made = $state.raw<FeedbackDataset | null>(null);
  report = $state.raw<DatasetReport | null>(null);
  error = $state.raw<SlmError | null>(null);
  isBusy = $state(false);

  /** Store a file and check it. */
  useFile(file: File, options: DatasetOptions): Promise<void> {
    return this.#use(async () => {
      const stored = await client.training.uploadDataset(file);
      return { id: stored.id, name: file.name, bytes: file.size };
    }, options);
  }

  /** Make a dataset of feedback and check it. */
  useFeedback(wanted: FeedbackDatasetRequest, options: DatasetOptions): Promise<void> {
    return this.#use(async () => {
      const made = await client.jobs.feedbackDataset(wanted);
      this.made = made;
      return { id: made.file_id, name: made.filename, bytes: made.bytes };
    }, options);
  }

  async #use(store: () => Promise<{ id: string; name: string; bytes: number }>, options: DatasetOptions): Promise<void> {
    this.isBusy = true;
    this.fileId = this.made = this.report = this.error = null;
    try {
      const { id, name, bytes } = await store();
      this.name = name;
      this.bytes = bytes;
      this.report = await client.training.check(id, options);
      this.fileId = id;
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      this.error = error;
    } finally {
      this.isBusy = false;
    }
  }
}
