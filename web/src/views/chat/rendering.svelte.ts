import type { Component } from "svelte";
import { patiently } from "../../stores/patience";

type MarkdownView = Component<{ text: string; isComplete: boolean }>;

/** The component that draws Markdown, which is loaded with the first answer. */
class Rendering {
  View = $state.raw<MarkdownView | null>(null);
  #isAsked = false;

  load(): void {
    if (this.#isAsked) return;
    this.#isAsked = true;
    void patiently(() => import("./Markdown.svelte")).then((loaded) => {
      this.View = loaded.default;
    });
  }
}

export const rendering = new Rendering();
