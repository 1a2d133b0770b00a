import type { Info, SlmError } from "slm-client";
import { t } from "../strings";

export interface Health {
  level: "good" | "warn" | "bad" | "unknown";
  text: string;
}

/** The state of the server in one line. */
export function health(info: Info | null, error: SlmError | null): Health {
  if (error?.code === "unreachable") return { level: "bad", text: t.server.unreachable };
  if (error !== null) return { level: "bad", text: error.message };
  if (info === null) return { level: "unknown", text: t.app.loading };
  if (info.workers.length === 0) return { level: "bad", text: t.server.noWorker };
  if (info.model_loaded) return { level: "good", text: t.server.ready };
  if (info.workers.some((worker) => worker.error)) return { level: "bad", text: t.server.failed };
  const isLoading = info.workers.some((worker) => worker.state === "loading" || worker.state === "starting");
  return { level: "warn", text: isLoading ? t.server.loading : t.server.unloaded };
}
