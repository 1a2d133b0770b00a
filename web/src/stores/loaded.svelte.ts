import { SlmError } from "slm-client";

/** A value from the server: the newest one, whether it is being loaded, and why the last attempt failed. */
export class Loaded<T> {
  value = $state.raw<T | null>(null);
  error = $state.raw<SlmError | null>(null);
  isLoading = $state(false);
  readonly #load: () => Promise<T>;

  constructor(load: () => Promise<T>) {
    this.#load = load;
  }

  /** Load it again; after a failure the older value stays. */
  refresh = async (): Promise<void> => {
    this.isLoading = true;
    try {
      this.value = await this.#load();
      this.error = null;
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      this.error = error;
    } finally {
      this.isLoading = false;
    }
  };
}
