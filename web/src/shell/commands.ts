import { router, VIEWS } from "../router.svelte";
import { client } from "../stores/client";
import { preferences, type Theme } from "../stores/preferences.svelte";
import { session } from "../stores/session.svelte";
import { toasts } from "../stores/toasts.svelte";
import { t } from "../strings";

export interface PaletteCommand {
  id: string;
  label: string;
  run: () => void;
}

/** Commands that views add while they are shown. */
const added = new Set<() => PaletteCommand[]>();

/** Offer more commands; returns a function that takes them back. For use in an effect. */
export function offerCommands(list: () => PaletteCommand[]): () => void {
  added.add(list);
  return () => added.delete(list);
}

const MODEL_COMMANDS: PaletteCommand[] = [
  { id: "load", label: t.palette.load, run: () => void toasts.attempt(() => client.models.load(), t.palette.loading) },
  { id: "unload", label: t.palette.unload, run: () => void toasts.attempt(() => client.models.unload(), t.palette.unloading) },
];
const THEMES: Theme[] = ["system", "light", "dark"];

/** All commands that can be given now. */
export function commands(): PaletteCommand[] {
  return [
    ...[...added].flatMap((list) => list()),
    ...VIEWS.map((view) => ({ id: view, label: t.palette.go(t.app.views[view]), run: () => router.go(view) })),
    ...THEMES.map((theme) => ({
      id: `theme-${theme}`,
      label: t.palette.theme(t.app.theme[theme]),
      run: () => {
        preferences.theme = theme;
      },
    })),
    ...(session.isAdmin ? MODEL_COMMANDS : []),
    { id: "docs", label: t.app.reference, run: () => void window.open("/docs", "_blank", "noopener") },
    { id: "key", label: t.key.change, run: () => session.askForKey("") },
    ...(session.key === null ? [] : [{ id: "forget-key", label: t.key.forget, run: () => session.useKey(null) }]),
  ];
}
