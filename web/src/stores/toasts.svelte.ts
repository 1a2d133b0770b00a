import { SlmError } from "slm-client";

export interface Toast {
  id: number;
  kind: "info" | "error";
  text: string;
}

const SHOWN_MS = 5000;

/** Short messages that go away by themselves; errors stay until they are closed. */
class Toasts {
  all = $state<Toast[]>([]);
  #next = 0;

  say(text: string, kind: Toast["kind"] = "info"): void {
    const id = this.#next++;
    this.all.push({ id, kind, text });
    if (kind === "info") setTimeout(() => this.close(id), SHOWN_MS);
  }

  close(id: number): void {
    this.all = this.all.filter((one) => one.id !== id);
  }

  /** Run an action and report its failure. Returns whether it succeeded. */
  async attempt(action: () => Promise<unknown>, success?: string): Promise<boolean> {
    try {
      await action();
      if (success) this.say(success);
      return true;
    } catch (error) {
      if (!(error instanceof SlmError)) throw error;
      this.say(error.message, "error");
      return false;
    }
  }
}

export const toasts = new Toasts();
