import { jobs } from "./en/jobs";
import { models } from "./en/models";
import { system } from "./en/system";
import { training } from "./en/training";

/** Every text of the page. Another language is another object of this shape. */
export const en = {
  app: {
    name: "SLM",
    navigation: "Views",
    skip: "Skip to the content",
    views: { chat: "Chat", jobs: "Jobs", models: "Models", training: "Fine-tune", system: "System" },
    palette: "Commands",
    theme: { label: "Colours", system: "As the system", light: "Light", dark: "Dark" },
    close: "Close",
    cancel: "Cancel",
    retry: "Try again",
    loading: "Loading…",
    copied: "Copied",
    reference: "API reference",
    more: "More",
  },
  key: {
    title: "This server needs an API key",
    label: "API key",
    hint: "It begins with slm_ and is kept until this tab is closed.",
    use: "Use key",
    forget: "Forget the API key",
    change: "Use another API key",
    signedIn: (owner: string, role: string) => `${owner} (${role})`,
  },
  server: {
    unreachable: "The server is not reachable",
    noWorker: "No worker is running",
    loading: "The model is loading",
    unloaded: "The model is not loaded",
    failed: "The model could not be loaded",
    ready: "Ready",
    busy: (running: number, waiting: number) => `${running} running, ${waiting} waiting`,
  },
  palette: {
    placeholder: "What do you want to do?",
    none: "Nothing found",
    go: (view: string) => `Go to ${view}`,
    theme: (theme: string) => `Colours: ${theme}`,
  },
  jobs,
  models,
  training,
  system,
  chat: { title: "Chat" },
};
