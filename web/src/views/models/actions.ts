import type { Question } from "../../parts/Confirm.svelte";
import { href } from "../../router.svelte";
import { toasts } from "../../stores/toasts.svelte";

/** What the parts of the view get from it. */
export interface ViewActions {
  ask: (question: Question) => void;
  refresh: () => Promise<void>;
}

/** Do it, report how it ended, and show the new state. */
export async function change(action: () => Promise<unknown>, success: string, refresh: () => Promise<void>): Promise<boolean> {
  const isDone = await toasts.attempt(action, success);
  await refresh();
  return isDone;
}

/** The address of the comparison of two models. */
export function compareHref(...models: string[]): string {
  return `${href("chat", "compare")}?${new URLSearchParams(models.map((model) => ["model", model]))}`;
}

/** The form of the names of adapters and aliases, for the attribute `pattern`. */
export const NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}";
