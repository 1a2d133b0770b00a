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
/** Places inside the views. */
const PLACES: PaletteCommand[] = [
  { id: "new-chat", label: t.chat.new, run: () => router.go("chat") },
  { id: "compare", label: t.chat.compare, run: () => router.go("chat", "compare") },
  { id: "new-run", label: t.palette.part(t.app.views.training, t.training.newRun), run: () => router.go("training", "new") },
];
const OPERATORS_PLACES: PaletteCommand[] = (["keys", "settings", "audit"] as const).map((part) => ({
  id: `system-${part}`,
  label: t.palette.part(t.app.views.system, t.system.parts[part]),
  run: () => router.go("system", part),
}));
const THEMES: Theme[] = ["system", "light", "dark"];

/** All commands that can be given now. */
export function commands(): PaletteCommand[] {
  return [
    ...[...added].flatMap((list) => list()),
    ...PLACES,
    ...(session.isAdmin ? OPERATORS_PLACES : []),
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
