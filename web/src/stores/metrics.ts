/** A value of a metric with its labels, such as `slm_workers{state="ready"} 1`. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** The metrics of one moment. */
export class Metrics {
  readonly #samples: Map<string, Sample[]>;

  constructor(samples: Sample[]) {
    this.#samples = new Map();
    for (const sample of samples) this.#samples.set(sample.name, [...this.all(sample.name), sample]);
  }

  /** Read Prometheus's text format. */
  static parse(text: string): Metrics {
    return new Metrics(text.split("\n").map(parseLine).filter((sample) => sample !== null));
  }

  all(name: string): Sample[] {
    return this.#samples.get(name) ?? [];
  }

  /** The sum over all samples of the metric with these labels; null if there is none. */
  sum(name: string, labels: Record<string, string> = {}): number | null {
    const found = this.all(name).filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value));
    return found.length ? found.reduce((sum, { value }) => sum + value, 0) : null;
  }
}

function parseLine(line: string): Sample | null {
  const [, name, labels = "", value] = LINE.exec(line) ?? [];
  if (name === undefined || value === undefined) return null;
  const number = Number(value.replace("Inf", "Infinity"));
  return { name, labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, label = "", text = ""]) => [label, unescaped(text)])), value: number };
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
}
