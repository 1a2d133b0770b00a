import { untrack } from "svelte";
import { session } from "./session.svelte";

/**
 * Call `refresh` now, every `everyMs` while the page is visible, when it becomes visible again, and after another key
 * was entered. For use while a component is mounted.
 */
export function poll(refresh: () => Promise<void>, everyMs: number): void {
  $effect(() => {
    void session.generation;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isStopped = false;
    const run = async () => {
      clearTimeout(timer);
      if (!document.hidden) await refresh();
      if (!isStopped) timer = setTimeout(run, everyMs);
    };
    const onVisible = () => {
      if (!document.hidden) void run();
    };
    document.addEventListener("visibilitychange", onVisible);
    untrack(() => void run()); // what it reads must not start it again
    return () => {
      isStopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  });
}
