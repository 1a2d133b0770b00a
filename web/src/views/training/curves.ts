import type { TrainingProgress } from "slm-client";

export interface Curves {
  steps: number[];
  loss: (number | null)[];
  heldOut: (number | null)[];
  learningRate: (number | null)[];
}

/** The curves of a run by step. After a run was continued, the newer values of a step count. */
export function curvesOf(progress: TrainingProgress[]): Curves {
  const bySteps = new Map<number, TrainingProgress>();
  for (const one of progress) if (one.step !== undefined) bySteps.set(one.step, { ...bySteps.get(one.step), ...known(one) });
  const points = [...bySteps.entries()].sort(([a], [b]) => a - b);
  const of = (name: "loss" | "held_out_loss" | "learning_rate") => points.map(([, point]) => point[name] ?? null);
  return { steps: points.map(([step]) => step), loss: of("loss"), heldOut: of("held_out_loss"), learningRate: of("learning_rate") };
}

/** Without the values that are null or missing, which must not hide known ones. */
function known(progress: TrainingProgress): TrainingProgress {
  return Object.fromEntries(Object.entries(progress).filter(([, value]) => value !== null && value !== undefined)) as unknown as TrainingProgress;
}
