// Draws what arrives within one frame of the screen at once.

/** A tab in the background has no frames, but its title goes on. */
const LATE_MILLISECONDS = 100;

const due = new Set<() => void>();

/** Calls each of what was given once, however often it was given. */
export function inNextFrame(action: () => void): void {
  due.add(action);
  if (due.size > 1) return;
  const run = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    const actions = [...due];
    due.clear();
    for (const action of actions) action();
  };
  const frame = requestAnimationFrame(run);
  const timer = setTimeout(run, LATE_MILLISECONDS);
}
