import { SlmError, UNREACHABLE } from "slm-client";
import { patiently } from "./patience";

const loaded = new WeakMap<() => Promise<unknown>, unknown>();
let isFirst = true; // it comes together with the page

/**
 * Load a part of the page, however long the server is away; `onAway` is as in `patiently`.
 *
 * Nothing of it is asked for before the server is there: what has failed once is not asked for again by Firefox if it is
 * a script, and by Vite if it is a style. A part that was loaded by the same function before needs no server.
 */
export async function loadPart<T>(load: () => Promise<T>, onAway?: () => boolean): Promise<T> {
  if (loaded.has(load)) return loaded.get(load) as T;
  if (!isFirst) await patiently(reachServer, onAway);
  isFirst = false;
  const part = await patiently(load, onAway);
  loaded.set(load, part);
  return part;
}

async function reachServer(): Promise<void> {
  const response = await fetch(import.meta.url, { method: "HEAD", cache: "no-store" }).catch(() => null);
  const error = new SlmError("The server is away.", response === null ? UNREACHABLE : "", response?.status);
  if (error.isTemporary) throw error;
}
