import type { Component } from "svelte";
import { loadPart } from "../../stores/parts";

type MarkdownView = Component<{ text: string; isComplete: boolean }>;

/** The component that draws Markdown, which is loaded with the first answer. */
class Rendering {
  View = $state.raw<MarkdownView | null>(null);
  #isAsked = false;

  load(): void {
    if (this.#isAsked) return;
    this.#isAsked = true;
    void loadPart(() => import("./Markdown.svelte")).then((loaded) => {
      this.View = loaded.default;
    });
  }
}

export const rendering = new Rendering();
