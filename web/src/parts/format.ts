/** Numbers, sizes and times as the person's browser writes them. */

/** Made when it is first used: each costs the first paint a millisecond or more. */
function later<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

const number = later(() => new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 }));
const decimal = later(() => new Intl.NumberFormat(undefined, { maximumFractionDigits: 1, minimumFractionDigits: 1 }));
const precise = later(() => new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 }));
const compact = later(() => new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 }));
const percent = later(() => new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 }));
const relative = later(() => new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" }));
const time = later(() => new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" }));
const day = later(() => new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }));

export const formatNumber = (value: number) => number().format(value);
export const formatDecimal = (value: number) => decimal().format(value);
export const formatPrecise = (value: number) => precise().format(value);
export const formatCompact = (value: number) => compact().format(value);
export const formatPercent = (value: number) => percent().format(value);
export const formatTime = (value: string | number) => time().format(new Date(value));
export const formatDay = (value: string | number) => day().format(new Date(value));

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [["day", 86_400_000], ["hour", 3_600_000], ["minute", 60_000]];

/** How long ago that was; `value` is a time or milliseconds since the epoch. */
export function formatAge(value: string | number, now = Date.now()): string {
  const ms = new Date(value).getTime() - now;
  for (const [unit, size] of UNITS) if (Math.abs(ms) >= size) return relative().format(Math.round(ms / size), unit);
  return relative().format(Math.min(0, Math.round(ms / 1000)), "second");
}

/** A duration in milliseconds: "850 ms", "12.3 s", "4 min 10 s", "2 h 5 min". */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${number().format(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${decimal().format(s)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(s % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A size in bytes: "12 kB", "4.2 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** step;
  return `${step > 0 && value < 10 ? decimal().format(value) : number().format(value)} ${units[step]}`;
}
