import { t } from "../strings";
import { toasts } from "./toasts.svelte";

/** Copy a text and say so. Browsers allow it only for pages over HTTPS or from this machine. */
export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toasts.say(t.app.copied);
  } catch {
    toasts.say(t.app.notCopied, "error");
  }
}
