import { SlmError, UNREACHABLE } from "slm-client";
import { patiently } from "./patience";

let isFirst = true; // it comes together with the page

/**
 * Load a part of the page, however long the server is away; `onAway` is as in `patiently`.
 *
 * Nothing of it is asked for before the server is there: what has failed once is not asked for again by Firefox if it is
 * a script, and by Vite if it is a style.
 */
export async function loadPart<T>(load: () => Promise<T>, onAway?: () => boolean): Promise<T> {
  if (!isFirst) await patiently(reachServer, onAway);
  isFirst = false;
  return patiently(load, onAway);
}

async function reachServer(): Promise<void> {
  const response = await fetch(import.meta.url, { method: "HEAD", cache: "no-store" }).catch(() => null);
  const error = new SlmError("The server is away.", response === null ? UNREACHABLE : "", response?.status);
  if (error.isTemporary) throw error;
}
