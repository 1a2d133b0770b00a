import { SlmError } from "slm-client";

const PAUSE_MS = 1000;

/**
 * Do something that needs the server, again and again while the server is away or busy.
 *
 * `onAway` is called after each attempt that failed for this reason; if it returns false, the error is thrown.
 */
export async function patiently<T>(action: () => Promise<T>, onAway: () => boolean = () => true): Promise<T> {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!isTemporary(error) || !onAway()) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

/** Whether the same action may succeed later: a request, or loading a part of the page. */
function isTemporary(error: unknown): boolean {
  if (error instanceof SlmError) return error.isTemporary;
  return error instanceof Error && /\bmodule\b|\bpreload\b/.test(error.message); // of `import()`, in each browser's words, and of Vite
}
